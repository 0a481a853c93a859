"""Pictures that go away while a training reads them, and come back."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch

from alexnet import checkpoints, session
from alexnet.checks import TrainingError
from alexnet.config import TrainConfig
from alexnet.data.sources import BUILT_IN, is_there
from alexnet.group import joined_group
from alexnet.options import parser
from alexnet.progress import Progress
from alexnet.recorder import Recorder
from alexnet.runs import RunDirectory
from tests.training import folder_of_pictures, options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The trainings here run in this process, and take one thread."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return folder_of_pictures(tmp_path / "data")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights at the end of a training that nobody disturbs."""
    place = tmp_path_factory.mktemp("whole")
    return weights(trained(recipe(folder_of_pictures(place / "data")), place / "run"))


def recipe(data: Path, **changes: Any) -> TrainConfig:
    """Of nine steps in an epoch and a half, with one validation after six and one at the end."""
    words = ["train", str(data), *options(epochs=2, max_steps=9, workers=0, probes=0, layers_every=0)]
    given = parser().parse_args(words)
    values = {f.name: v for f in dataclasses.fields(TrainConfig) if (v := getattr(given, f.name)) is not None}
    return TrainConfig(**values | changes)


def trained(config: TrainConfig, run: Path) -> RunDirectory:
    with joined_group("cpu") as group:
        directory = RunDirectory(run)
        if directory.config_path.is_file():
            session.resume(directory, {}, group, Progress("train")).run()
        else:
            session.begin(config, directory, group, Progress("train")).run()
    return directory


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    return dict(checkpoints.load(run.last).weights)


def before(monkeypatch: pytest.MonkeyPatch, of: Any, name: str, action: Callable[[], object]) -> None:
    """Does something, once, at the first call of a function, before that does its work."""
    real, done = getattr(of, name), False

    def acted(*given: Any, **more: Any) -> Any:
        nonlocal done
        if not done:
            done = True
            action()
        return real(*given, **more)

    monkeypatch.setattr(of, name, acted)


GONE = "the pictures are gone: {data} is not there any more, or is empty; put it back, then go on with --resume {run}"


@pytest.mark.parametrize(
    ("part", "moment", "unreadable", "says"),
    [
        (".", (Recorder, "step"), "skip", GONE),
        (".", (Recorder, "step"), "stop", GONE),
        (".", (session, "evaluate"), "skip", GONE),
        ("train", (Recorder, "step"), "skip", "none could be read, the latest: train/class"),
        ("val", (Recorder, "step"), "stop", "validation: no picture could be read, so there is nothing to evaluate"),
    ],
)
def test_the_folder_is_named_and_the_run_goes_on_when_it_is_back(
    data: Path,
    whole: dict[str, torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    moment: tuple[Any, str],
    unreadable: str,
    says: str,
) -> None:
    config, run, away = recipe(data, on_unreadable=unreadable), tmp_path / "run", tmp_path / "away"
    before(monkeypatch, *moment, lambda: (data / part).rename(away))
    with pytest.raises(TrainingError) as ended:
        trained(config, run)
    said = str(ended.value)
    assert says.format(data=data, run=run) in said
    assert RunDirectory(run).status()["message"] == said
    assert str(data) in said
    assert f"go on with --resume {run}" in said
    assert [record for record in RunDirectory(run).metrics() if record["kind"] == "val"] == []

    away.rename(data / part)
    again = weights(trained(config, run))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_validation_that_lost_its_pictures_midway_is_not_believed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = session.evaluate

    def evaluate(*given: Any, **more: Any) -> Any:
        found = real(*given, **more)
        data.rename(tmp_path / "away")
        return dataclasses.replace(found, unreadable=("val/class2/003.png: cannot be opened",))

    monkeypatch.setattr(session, "evaluate", evaluate)
    with pytest.raises(TrainingError, match="the pictures are gone"):
        trained(recipe(data), tmp_path / "run")
    assert [record["kind"] for record in RunDirectory(tmp_path / "run").metrics()] == ["train"] * 6


def test_an_empty_folder_is_as_good_as_none(tmp_path: Path) -> None:
    """What an unmounted disk leaves."""
    assert not is_there(str(tmp_path))
    assert not is_there(str(tmp_path / "nothing"))
    (tmp_path / "pack.json").write_text("{}")
    assert is_there(str(tmp_path))
    assert is_there(str(tmp_path / "pack.json"))
    assert is_there(BUILT_IN)
