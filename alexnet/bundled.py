"""The trained network in the box: where it is, and what is said of it.  Standard library only.

A bundle is the folder that `python -m alexnet bundle` makes of a finished run: a run directory that pages can read,
without photographs, with the weights in half precision, a model card and its numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet.errors import UserError
from alexnet.runs import RunDirectory

FORMAT = 1
WEIGHTS = "weights.safetensors"
RESULTS = "results.json"
CARD = "MODEL_CARD.md"


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


_SHIPPED = Path(__file__).resolve().parent / "trained"
IMAGENETTE = Bundle(_SHIPPED / "imagenette")
"""The network that the app opens on, trained on photographs."""
GENERATED = Bundle(_SHIPPED / "generated")
"""A small one, trained on the built-in generated pictures: one command repeats it in minutes."""
