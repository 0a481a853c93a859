"""The processes that train together: one alone, or those that torchrun started."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import distributed

from alexnet.data.loading import Share
from alexnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Group:
    """`share` is this process's part of every batch; `local_rank` its number on this machine."""

    share: Share
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.share.rank == 0

    @property
    def size(self) -> int:
        return self.share.world

    def agreed(self, answer: bool) -> bool:
        """The leader's answer, in every process."""
        if self.size == 1:
            return answer
        answers = [answer]
        distributed.broadcast_object_list(answers, src=0)
        return answers[0]

    def gathered(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The texts of all processes, in every process."""
        mine = tuple(texts)
        if self.size == 1:
            return mine
        parts: list[tuple[str, ...]] = [()] * self.size
        distributed.all_gather_object(parts, mine)
        return tuple(text for part in parts for text in part)

    def wait(self) -> None:
        """Until every process has come here."""
        if self.size == 1:
            return
        try:
            distributed.barrier()
        except RuntimeError as error:
            if lost_another(error):
                raise UserError("another of the processes that train together has ended, and it says why") from None
            raise


def lost_another(error: BaseException) -> bool:
    """Whether torch's error says that another process of the group is gone."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or "gloo/transport" in text or "connection closed by peer" in text


@contextlib.contextmanager
def joined_group(device: str) -> Iterator[Group]:
    """The group that torchrun started this process in, or one process alone."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group(Share())
        return
    cuda = torch.cuda.is_available() and device != "cpu"
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if cuda:
        torch.cuda.set_device(local_rank)
    # Flags and names travel through gloo also where tensors travel through NCCL.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        yield Group(Share(int(os.environ["RANK"]), world), local_rank)
    finally:
        distributed.destroy_process_group()
