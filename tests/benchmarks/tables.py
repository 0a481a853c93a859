"""Our cost table against fvcore's and torchinfo's for the same network, and the command line as a whole process.

    python -m tests.benchmarks.tables

Nothing is cached on our side: every call computes every stage anew.  fvcore and torchinfo get a module that is built
and warm; torchinfo is also given the meta device, where it is fastest.  One JSON line comes out.  Targets: at least
100 times faster than each, and `python -m analysis table alexnet-2012` within 0.25 s.
"""

from __future__ import annotations

import json
import logging
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch
import torchinfo
from fvcore.nn import FlopCountAnalysis

from alexnet.zoo import ALEXNET_2012
from analysis.costs import cost_table
from analysis.measured import stock_module
from tests.serving import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

_REPEATS = 15
_OURS_PER_REPEAT = 200


def _ours() -> None:
    for _ in range(_OURS_PER_REPEAT):
        cost_table(ALEXNET_2012)


def _fvcore() -> Callable[[], object]:
    model, image = stock_module(ALEXNET_2012).eval(), torch.zeros(1, *ALEXNET_2012.input_shape)
    logging.getLogger("fvcore").setLevel(logging.ERROR)
    return lambda: FlopCountAnalysis(model, image).by_module()


def _torchinfo(device: str) -> Callable[[], object]:
    with torch.device(device):
        model = stock_module(ALEXNET_2012).eval()
    size = (1, *ALEXNET_2012.input_shape)
    return lambda: torchinfo.summary(model, input_size=size, device=device, verbose=0, cache_forward_pass=False)


def _command() -> None:
    subprocess.run(
        [sys.executable, "-m", "analysis", "table", "alexnet-2012"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


def main() -> None:
    """Measure in turn, so that noise falls on all alike, and print."""
    tasks: dict[str, tuple[Callable[[], object], int]] = {
        "ours": (_ours, _OURS_PER_REPEAT),
        "fvcore": (_fvcore(), 1),
        "torchinfo": (_torchinfo("cpu"), 1),
        "torchinfo on meta": (_torchinfo("meta"), 1),
        "python -m analysis table": (_command, 1),
    }
    milliseconds: dict[str, list[float]] = {name: [] for name in tasks}
    for task, _ in tasks.values():
        task()
    for _ in range(_REPEATS):
        for name, (task, calls) in tasks.items():
            start = time.perf_counter()
            task()
            milliseconds[name].append((time.perf_counter() - start) / calls * 1e3)
    medians = {name: statistics.median(values) for name, values in milliseconds.items()}
    print(
        json.dumps(
            {
                "median_ms": {name: round(value, 4) for name, value in medians.items()},
                "spread_ms": {name: round(max(v) - min(v), 4) for name, v in milliseconds.items()},
                "times_faster": {
                    name: round(medians[name] / medians["ours"])
                    for name in ("fvcore", "torchinfo", "torchinfo on meta")
                },
                "repeats": _REPEATS,
                "machine": platform.processor() or platform.machine(),
                "versions": {name: version(name) for name in ("torch", "fvcore", "torchinfo")},
            }
        )
    )


if __name__ == "__main__":
    main()
