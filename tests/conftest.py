from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from alexnet.spec import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Layer, Shape

# The first example pays for what torch imports late, so single examples have no time limit.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    # fvcore compiles its losses with torch.jit.script while it is imported; analysis.measured imports fvcore.
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script` is deprecated:DeprecationWarning")


@pytest.fixture(scope="session")
def network_of() -> Callable[..., Network]:
    """A network made of a few layers, named l1, l2, … in their order."""

    def make(input_shape: Shape, *layers: Layer, towers: int = 1, merged_at: str | None = None) -> Network:
        named = tuple((f"l{number}", layer) for number, layer in enumerate(layers, start=1))
        return Network("made-up", "Made up", input_shape, named, "a test", "", towers, merged_at)

    return make
