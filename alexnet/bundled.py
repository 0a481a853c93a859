"""The trained network in the box: where it is, and what is said of it.  Standard library only.

A bundle is the folder that `python -m alexnet bundle` makes of a finished run: a run directory that pages can read,
without photographs, with the weights in half precision, a model card and its numbers.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from alexnet.errors import UserError
from alexnet.runs import RunDirectory, RunError, explained

FORMAT = 1
WEIGHTS = "weights.safetensors"
RESULTS = "results.json"
CARD = "MODEL_CARD.md"

Which = Literal["best", "last"]
WHICH: tuple[Which, ...] = get_args(Which)
"""Whose weights can be shipped."""
FEWEST_MOMENTS, MOMENTS = 60, 80
"""A film jumps with fewer; half of the moments lie in the beginning, where kernels change fastest."""


class BundleError(UserError):
    """A bundle cannot be made or read; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's folder; what is in it is read when it is asked for."""

    folder: Path

    @property
    def weights(self) -> Path:
        """The checkpoint, float16, which `open_checkpoint` reads."""
        return self.folder / WEIGHTS

    @property
    def run(self) -> RunDirectory:
        """The training: config, status, metrics and the film's moments, without maps.  Raises RunError."""
        return RunDirectory.open(self.folder)

    @property
    def card(self) -> Path:
        return self.folder / CARD

    def results(self) -> dict[str, Any]:
        """The card's numbers, as `analysis.shipped.measured` found them.

        Raises:
            BundleError: they are not there, damaged, or of another version.
        """
        path = self.folder / RESULTS
        again = "make the bundle again with python -m alexnet bundle"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read: {error}; {again}") from None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise BundleError(f"{path} holds no results of a bundle in format {FORMAT}: {again}")
        return values

    def placed(self, root: Path) -> RunDirectory:
        """A copy of the training among the runs in `root`, so that it is looked at like any of them; made once.

        It has everything but checkpoints: `weights` is the network.

        Raises:
            BundleError: there is no right to, no room, or something else of its name.
        """
        place = RunDirectory(root / f"{self.folder.name}-in-the-box")
        if place.config_path.is_file():
            return place
        aside = None
        try:
            root.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".box-", dir=root))
            shutil.copytree(self.folder, aside / "run", ignore=shutil.ignore_patterns(WEIGHTS, RESULTS, CARD))
            (aside / "run").rename(place.path)
        except OSError as error:  # shutil.Error, of several files, too
            if place.config_path.is_file():  # another tab was faster
                return place
            raise BundleError(
                f"the training in the box cannot be put into {place.path}: {explained(error)}; make room, or take away "
                "what is there"
            ) from None
        finally:
            if aside is not None:
                shutil.rmtree(aside, ignore_errors=True)
        return place


_SHIPPED = Path(__file__).resolve().parent / "trained"
IMAGENETTE = Bundle(_SHIPPED / "imagenette")
"""The network that the app opens on, trained on photographs."""
GENERATED = Bundle(_SHIPPED / "generated")
"""A small one, trained on the built-in generated pictures: one command repeats it in minutes."""


def bundle_of(run: RunDirectory) -> Bundle | None:
    """The bundle that this folder is, or the one in the box that it is a copy of; None for any other run.

    A copy began when its bundle did, whatever it is called now, and neither has checkpoints as a training leaves them.
    Where its config.json cannot be read, a copy is not known as one.
    """
    if run.checkpoints():
        return None
    if (own := Bundle(run.path)).weights.is_file():
        return own
    if (began := _began(run)) is None:
        return None
    return next((one for one in (IMAGENETTE, GENERATED) if _began(RunDirectory(one.folder)) == began), None)


def _began(run: RunDirectory) -> float | None:
    with contextlib.suppress(RunError):
        began = run.config().get("created")
        return began if isinstance(began, float) else None
    return None
