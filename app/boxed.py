"""The trainings in the box among the runs of this machine, to be looked at like any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet.about import write_about
from alexnet.bundled import GENERATED, IMAGENETTE
from alexnet.runs import RUNS

if TYPE_CHECKING:
    from alexnet.bundled import Bundle
    from alexnet.runs import RunDirectory

NAMES = {IMAGENETTE: "Photographs (in the box)", GENERATED: "Generated pictures (in the box)"}


def put(bundle: Bundle) -> RunDirectory:
    """A training of the box as a run of this machine, with a name.

    Raises:
        UserError: it cannot be written.
    """
    run = bundle.placed(RUNS)
    if not (run.path / "about.json").exists():
        write_about(run.path, name=NAMES[bundle], note="Comes with the laboratory; its network is the built-in one.")
    return run
