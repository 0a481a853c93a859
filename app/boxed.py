"""The trainings in the box among the runs of this machine, to be looked at like any of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alexnet.about import write_about
from alexnet.bundled import GENERATED, IMAGENETTE
from alexnet.runs import RUNS

if TYPE_CHECKING:
    from alexnet.bundled import Bundle
    from alexnet.runs import RunDirectory

TRAINED_ON = {IMAGENETTE: "Photographs", GENERATED: "Generated pictures"}
"""Every training in the box, by what it saw; the sidebar of the pages that look inside offers them by these words."""


def put(bundle: Bundle) -> RunDirectory:
    """The run of this training; `put_all` puts it among the runs of this machine where it is not, as all of the box."""
    return put_all()[bundle]


def put_all() -> dict[Bundle, RunDirectory]:
    """The trainings of the box as runs of this machine, each with a name.

    Raises:
        UserError: one cannot be written.
    """
    return {bundle: _put(bundle) for bundle in TRAINED_ON}


def _put(bundle: Bundle) -> RunDirectory:
    run = bundle.placed(RUNS)
    if not (run.path / "about.json").exists():
        note = (
            f"Comes with the laboratory. Its network is the built-in one that was trained on "
            f"{TRAINED_ON[bundle].lower()}: the view Kernels shows its first kernels as they formed, and the pages "
            f"under Look inside show all of it, with {weights_of(bundle)}."
        )
        write_about(run.path, name=f"{TRAINED_ON[bundle]} (in the box)", note=note)
    return run


def weights_of(bundle: Bundle) -> str:
    """What to choose in the sidebar of the pages that look inside, to see this bundle's network."""
    if bundle in TRAINED_ON:
        return f"the weights From “Built-in”, Trained on “{TRAINED_ON[bundle]}”"
    return f"the weights From “File”, {bundle.weights}"
