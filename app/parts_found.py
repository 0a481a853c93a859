"""Where the results of ablations lie: those in the box, and the reader's own.  No Streamlit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alexnet.runs import RUNS
from analysis.ablation import RESULTS, Ablation, ResultsError, read

if TYPE_CHECKING:
    from collections.abc import Iterator

SHIPPED = Path(__file__).resolve().parent.parent / "alexnet" / "trained" / "ablation"
"""Every results file in here is shown."""

LRN = "paper-scale"
"""The one that says what LRN is worth."""
TITLES: dict[str, tuple[str, str]] = {
    LRN: (
        "LRN and overlapping pooling",
        (
            "Trained on pixels from 0 to 255 and from the initial weights of the 2012 source: with the paper's "
            "constants LRN holds back little of smaller values. Windows that do not overlap leave the last row and "
            "column of a map unread where its side is odd; at 99 pixels that is 36 % of the last maps, 5×5, and of the "
            "paper's 13×13 it is 15 %, so they may well lose more here."
        ),
    ),
    "figure-1": (
        "ReLU or tanh",
        (
            "The paper's figure 1 asks how soon the training error is 25 %. As there, nothing regularises these runs, "
            "and each kind has its own learning rate, the fastest over three epochs of those that were tried: ReLU "
            "0.005, 0.01 and 0.02, tanh 0.0025, 0.005, 0.01 and 0.02. Unlike there, the network is all of AlexNet, "
            "with LRN, its inputs have unit variance, and behind conv1 the weights begin with He's variances."
        ),
    ),
}
"""Of the files in the box, by their names without .json, in this order: a title and why these runs were made."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One ablation, under the name that a page's address has for it; `trouble` says why there is none to be read."""

    name: str
    title: str
    about: str
    found: Ablation | None
    trouble: str = ""

    @property
    def file(self) -> str:
        """How the names of files begin that are saved of it."""
        return f"ablation-{self.name.replace('/', '-')}"


def shipped() -> list[Listed]:
    """Those in the box: the ones with a title first, others by name."""
    order = list(TITLES)
    paths = sorted(
        SHIPPED.glob("*.json"),
        key=lambda path: (order.index(path.stem) if path.stem in TITLES else len(order), path.stem),
    )
    return [_listed(path, path.stem, *TITLES.get(path.stem, (path.stem, ""))) for path in paths]


def of_lrn() -> Ablation | None:
    """What is in the box on the worth of LRN; None where there is nothing that can be read."""
    path = SHIPPED / f"{LRN}.json"
    return _listed(path, LRN, *TITLES[LRN]).found if path.is_file() else None


def own() -> list[Listed]:
    """Those that `python -m alexnet ablate` wrote into the folder of runs, in any folder of it, by name."""
    return [
        _listed(path, name, name, f"Your own, in {path.parent.resolve()}.")
        for name, path in sorted(_own_paths())
        if not _is_something_else(path)
    ]


def _own_paths() -> Iterator[tuple[str, Path]]:
    for path in (RUNS / RESULTS, *RUNS.glob(f"*/{RESULTS}")):
        if path.is_file():
            yield path.parent.as_posix(), path


def _is_something_else(path: Path) -> bool:
    """Whether these are whole results of another kind: a bundle's have the same name."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return not isinstance(values, dict) or "variants" not in values


def _listed(path: Path, name: str, title: str, about: str) -> Listed:
    try:
        return Listed(name, title, about, read(path))
    except ResultsError as error:
        return Listed(name, title, about, None, str(error))
