"""What the page "Start a training" makes of the library's sentences and of paths, without a page."""

from __future__ import annotations

import dataclasses
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet import archive
from alexnet.config import TrainConfig
from alexnet.data.sources import DataError, open_data
from app.start_form import LABELS, label, told
from app.wrong_data import wrong_kind
from tests.training import folder_of_pictures

if TYPE_CHECKING:
    from pathlib import Path


def test_every_field_has_a_label_of_its_own() -> None:
    names = {field.name for field in dataclasses.fields(TrainConfig)} - {"data", "preset"}
    assert set(LABELS) == names | {"input", "variant"}
    shown = [label(name) for name in LABELS]
    assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("--batch must be from 1 to 65,536, got 0", "**Batch** must be from 1 to 65,536, got 0"),
        ("give more --epochs, or more --drops, since", "Give more **Epochs**, or more **Drops**, since"),
        ("leave it out with --no-mirror", "Leave it out with **Reflections**"),
        ("like --preset quick; --jitter-to 3", "Like **Preset** quick; **Scale jitter up to** 3"),
        ("fewer checkpoints (--keep-every 0)", "Fewer checkpoints (**Keep every** 0)"),
        ("say that it may be written over (--force)", "Say that it may be written over (`--force`)"),
        ("pack with python -m alexnet pack --side 148, or", "Pack with `python -m alexnet pack --side 148`, or"),
        ("a pack (python -m alexnet pack) is read", "A pack (`python -m alexnet pack`) is read"),
        ("cannot open '/a--batch/b*c*'", r"Cannot open '/a--batch/b\*c\*'"),
        ("or a network with a smaller input, NAME@SIDE", "Or a smaller **Input side**"),
    ],
)
def test_options_of_the_command_line_are_told_as_fields(sentence: str, shown: str) -> None:
    assert told(sentence) == shown


def test_what_is_no_data_is_told_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("ü" * 3_000)
    (tmp_path / "empty").write_bytes(b"")
    Image.new("RGB", (8, 8)).save(tmp_path / "one.jpg")
    torch.save({"a": torch.zeros(2)}, tmp_path / "weights")  # a zip archive without a name that says so
    np.savez(tmp_path / "weights.npz", a=np.zeros(2))
    (tmp_path / "weights.safetensors").write_bytes(b"\0")
    with zipfile.ZipFile(tmp_path / "pictures.zip", "w") as file:
        file.writestr("train/a/0.png", b"")
    with zipfile.ZipFile(tmp_path / "run.zip", "w") as file:
        file.writestr(archive.MANIFEST, b"{}")
        file.writestr("config.json", b"{}")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text("{}")
    for name, kind in (
        ("notes.txt", "a text file, and no pictures: name a folder of pictures"),
        ("empty", "an empty file"),
        ("one.jpg", "a single picture: name the folder"),
        ("weights", "a checkpoint, the weights of a network"),
        ("weights.npz", "a checkpoint"),
        ("weights.safetensors", "a checkpoint"),
        ("pictures.zip", "a .zip archive: unpack it"),
        ("broken.zip", "a .zip archive: unpack it"),
        ("run.zip", "a run that was exported: import it on the page Runs"),
        ("run", "the folder of a run"),
    ):
        with pytest.raises(DataError):  # only what cannot be opened is asked about
            open_data(str(tmp_path / name))
        assert wrong_kind(str(tmp_path / name)).startswith(f"{str(tmp_path / name)!r} is {kind}")


def test_of_what_it_does_not_know_it_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)))
    folder_of_pictures(tmp_path / "pictures", classes=1, per_class=1, val=1)
    for path in (
        tmp_path / "noise",
        tmp_path / "pictures",
        tmp_path / "gone",
        "a\0b",
        "~nosuchuserhere",
        "x" * 5_000,
        "",
    ):
        assert wrong_kind(str(path)) == ""
