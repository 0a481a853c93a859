"""The trainings in the box among the runs of this machine, to be looked at like any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet.about import write_about
from alexnet.bundled import GENERATED, IMAGENETTE, PLACED
from alexnet.runs import RUNS

if TYPE_CHECKING:
    from alexnet.bundled import Bundle
    from alexnet.runs import RunDirectory

TRAINED_ON = {IMAGENETTE: "Photographs", GENERATED: "Generated pictures"}
NAMES = {bundle: f"{what} (in the box)" for bundle, what in TRAINED_ON.items()}


def put(bundle: Bundle) -> RunDirectory:
    """A training of the box as a run of this machine, with a name.

    Raises:
        UserError: it cannot be written.
    """
    run = bundle.placed(RUNS)
    if not (run.path / "about.json").exists():
        note = (
            f"Comes with the laboratory. Its network is the built-in one for “{TRAINED_ON[bundle]}” on the pages "
            "Kernels, Activations and LRN laboratory."
        )
        write_about(run.path, name=NAMES[bundle], note=note)
    return run


def of(run: RunDirectory) -> Bundle | None:
    """The bundle that a run among the runs was put there from."""
    return next((bundle for bundle in NAMES if run.path.name == f"{bundle.folder.name}{PLACED}"), None)


def put_all() -> dict[Bundle, RunDirectory]:
    """All trainings of the box.  Raises UserError as `put` does."""
    return {bundle: put(bundle) for bundle in NAMES}
