"""What a training runs on: devices, number formats and kernels, chosen once and said."""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from alexnet import layers, memory
from alexnet.config import ConfigError, option
from alexnet.spec import LRN, SameMapNorm
from alexnet.words import size_text

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from alexnet.config import TrainConfig
    from alexnet.spec import Network

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORKERS_BESIDE_A_GPU = 12
"""More processes than this read ImageNet no faster than one GPU takes it."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Every choice that `auto` leaves open, made."""

    devices: tuple[torch.device, ...]
    """One, or two for one tower each."""
    precision: torch.dtype
    channels_last: bool
    lrn_kernels: layers.Kernels
    fused_optimiser: bool
    compile: bool
    workers: int
    threads: int

    @property
    def device(self) -> torch.device:
        """Where images go in and scores come out."""
        return self.devices[0]

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def report(self) -> dict[str, str]:
        """Each choice in words, for the log, status and config."""
        return {
            "device": ", ".join(map(device_name, dict.fromkeys(self.devices)))
            + (" (one tower each)" if len(self.devices) == 2 else ""),
            "precision": str(self.precision).removeprefix("torch."),
            "memory order": "channels last" if self.channels_last else "channels first",
            "lrn": self.lrn_kernels.report,
            "optimiser": "fused" if self.fused_optimiser else "one tensor at a time",
            "network": "torch.compile" if self.compile else "eager",
            "reading": f"{self.workers} processes" if self.workers else "a thread of the trainer",
            "threads": str(self.threads),
        }


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[Any]:
    """Products in this number format; weights, sums and losses stay float32."""
    return contextlib.nullcontext() if precision == torch.float32 else torch.autocast(device.type, precision)


def device_name(device: torch.device) -> str:
    """A device as people know it: ``cuda:0 (NVIDIA H200)``."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def chosen(config: TrainConfig, network: Network, *, in_memory: bool, local_rank: int = 0, world: int = 1) -> Machine:
    """What this config means on this machine; `in_memory` says that pictures need no decoding.

    Raises:
        ConfigError: a device that is not here, or a choice that was forced and cannot be had.
    """
    devices = named_devices(config.device, network, local_rank, world)
    cuda = devices[0].type == "cuda"
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    elif world > 1 and not cuda:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    return Machine(
        devices=devices,
        precision=_precision(config, cuda=cuda),
        channels_last=config.channels_last != "off",
        lrn_kernels=_kernels(config, network, devices[0].type),
        fused_optimiser=config.fused_optimiser != "off",
        compile=config.compile == "on",
        workers=_workers(config.workers, cuda=cuda, in_memory=in_memory, world=world),
        threads=torch.get_num_threads(),
    )


def named_devices(text: str, network: Network, local_rank: int = 0, world: int = 1) -> tuple[torch.device, ...]:
    """The one or two devices that a text like ``auto``, ``cuda`` or ``cuda:0,cuda:1`` names.

    Raises:
        ConfigError: no such device here, or two for a network that has not two towers.
    """
    if text == "auto":
        text = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    elif text == "cuda":
        text = f"cuda:{local_rank}"
    try:
        devices = tuple(torch.device(part.strip()) for part in text.split(","))
    except RuntimeError:
        raise ConfigError(f"{option('device')} must be like cpu, cuda, cuda:1 or cuda:0,cuda:1; got {text!r}") from None
    if len(devices) > 2:
        raise ConfigError(f"{option('device')} takes one device, or two for one tower each; got {text!r}")
    for device in devices:
        if device.type not in {"cpu", "cuda"}:
            raise ConfigError(f"{option('device')} must be cpu or cuda, got {device}")
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"{option('device')} {text}: torch sees no CUDA device here; use {option('device')} cpu")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(
                f"{option('device')} {text}: there are {torch.cuda.device_count()} CUDA devices here, numbered from 0"
            )
    if len(devices) == 2 and network.towers != 2:
        raise ConfigError(f"{option('device')} {text} gives each tower a device, and {network.name} has no two towers")
    if len(devices) == 2 and world > 1:
        raise ConfigError("two devices by tower and several processes do not go together: give one device")
    return devices


def _precision(config: TrainConfig, *, cuda: bool) -> torch.dtype:
    if config.precision != "auto":
        return PRECISIONS[config.precision]
    if cuda:
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    # Without these instructions bfloat16 is emulated, and slower than float32.
    capabilities = torch.backends.cpu.get_cpu_capability()
    has_products = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001
    return torch.bfloat16 if capabilities.startswith("AVX512") and has_products else torch.float32


def _kernels(config: TrainConfig, network: Network, device_type: str) -> layers.Kernels:
    if not any(isinstance(layer, LRN | SameMapNorm) for _, layer in network.layers):
        return layers.PLAIN
    if config.compile == "on" and config.fused_lrn != "off":
        return layers.WITHIN
    wanted: dict[str, Literal["auto", "fused", "plain"]] = {"auto": "auto", "on": "fused", "off": "plain"}
    try:
        return layers.choose_kernels(device_type, wanted[config.fused_lrn])
    except layers.NoCompilerError as error:
        raise ConfigError(f"{option('fused_lrn')} on: torch.compile has no compiler here ({error})") from None


def _workers(wanted: int | None, *, cuda: bool, in_memory: bool, world: int) -> int:
    if wanted is not None:
        return wanted
    cores = (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1) // world
    # On the CPU the network itself wants every core: one thread reads ahead, and processes would only cost.
    if not cuda:
        return 0
    return min(4 if in_memory else WORKERS_BESIDE_A_GPU, max(1, cores - 1))


# --- speed ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def product_rate(machine: Machine) -> float:
    """Floating-point operations a second that this device reaches in large matrix products, measured in a moment.

    Two for each multiply–accumulate, on every device of the machine together, in its number format: no training can be
    faster than this.  Draws no random numbers, so that a training is the same with it and without.
    """
    side = _PRODUCT_SIDE[machine.device.type]
    factor = torch.ones(side, side, device=machine.device, dtype=machine.precision)
    product = torch.empty_like(factor)
    best = math.inf
    end = time.perf_counter() + _PRODUCT_SECONDS
    while best == math.inf or time.perf_counter() < end:
        begun = time.perf_counter()
        torch.mm(factor, factor, out=product)
        if machine.on_cuda:
            torch.cuda.synchronize(machine.device)
        best = min(best, time.perf_counter() - begun)
    return len(set(machine.devices)) * 2 * side**3 / best


_PRODUCT_SIDE = {"cpu": 1_024, "cuda": 8_192}
_PRODUCT_SECONDS = 0.1


# --- memory ----------------------------------------------------------------------------------------------------------


def check_memory(network: Network, machine: Machine, batch: int, world: int) -> str | None:
    """What to tell the user where a step on `batch` pictures cannot fit into the memory that is free now."""
    available = available_bytes(machine.device)
    needed = memory.training_memory(network, batch // world).total
    if available is None or needed <= available * len(machine.devices):
        return None
    return does_not_fit(network, machine, batch, world, available)


def does_not_fit(network: Network, machine: Machine, batch: int, world: int, available: int | None) -> str:
    """The estimate, what is free, and the batch that would fit."""
    needed = memory.training_memory(network, batch // world).total
    text = (
        f"{option('batch')} {batch} does not fit: a step on {batch // world} pictures needs about {size_text(needed)}"
    )
    if available is None:
        return text
    fits = memory.largest_batch(network, available) * world
    text += f" in float32, and {size_text(available)} are free on {device_name(machine.device)}; "
    if 0 < fits < batch:
        return text + f"at most about {option('batch')} {fits} would fit"
    if fits:  # the estimate leaves out workspaces and what else is on the device
        return text + f"try {option('batch')} {max(world, batch // 2)}"
    return text + f"not even one picture fits: use a smaller network, like {network.name.partition('@')[0]}@131"


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether torch's error says that memory ran out."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in text for words in ("out of memory", "can't allocate memory", "not enough memory")
    )


def available_bytes(device: torch.device) -> int | None:
    """Free memory of a device, as far as it can be known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    return None


def used_bytes(machine: Machine) -> int | None:
    """Memory that this process holds: on a GPU what torch has reserved there, else what is resident and no file's.

    Pictures of a pack are the system's to take back, and are not counted.
    """
    if machine.on_cuda:
        return sum(torch.cuda.memory_reserved(device) for device in dict.fromkeys(machine.devices))
    with contextlib.suppress(OSError, ValueError, IndexError):
        resident, shared = map(int, Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3])
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    return None
