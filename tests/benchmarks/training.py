"""What watching a training costs: how long a reader waits, and what the training loses.

    python -m tests.benchmarks.training [long] [answers] [beside] [sessions]

Four parts, all of them if none is named.  ``long``: a run with 100,000 metric records and 200 probes opens within 2
seconds of the click; a browser that comes for the first time is held against a bare Streamlit page's first paint in the
same run, which takes longer than that by itself; every extreme is in what the browser has drawn; redrawn while it
lives, it grows neither in the browser nor in the server.  ``answers``: while a real training has both
cores, pages answer within 1 second.  ``beside``: it keeps 95 % of its pictures a second; against nobody watching, in
turn, with a browser on the same cores, and with one elsewhere, for which a client stands in that asks for what a
browser asks for and draws nothing.  ``sessions``: ten browsers at two trainings, none of which sees the other's.

Each line of the table says how loaded the machine was when its measurement began (runnable processes over the minute
before it, what this benchmark ran itself among them): on a busy machine measure again.  Linux.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import orjson
from playwright.sync_api import sync_playwright
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect

from alexnet import launch as launching
from alexnet.presets import configured
from alexnet.probes import save, schedule
from alexnet.runs import FORMAT, RunDirectory
from alexnet.spec import LRN
from tests.benchmarks.pages import BARE, seconds, switch
from tests.benchmarks.timing import machine
from tests.serving import ROOT, launch, served, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from playwright.sync_api import Browser, Page

    from alexnet.config import TrainConfig

RECORDS = 100_000
PROBES = 200
SPIKES = 40
"""Single records of the long run far above or below the others, each of which must be seen."""
REDRAWS = 60
PART_SECONDS = 15.0
"""For which a training is watched, or is not, before the next turn."""
TURNS = 4
LIVELY_SECONDS = 62.0
"""After which pages let a training on the same cores breathe (app/running.py)."""
ANSWERS = 10
SESSIONS = 10
SESSION_SECONDS = 60.0

_LINE = ".scatterlayer path.js-line"
_CHART = "laboratory_live_chart"  # the component that draws them (app/components.py)
_PLOT = ".main-svg"  # where a line may be level: without height Playwright holds it for hidden
_CHARTS = tuple(f".st-key-chart_{name} {_LINE}" for name in ("loss", "accuracy"))
_VIEWS = {
    "Curves": _CHARTS,
    "Speed": (f".st-key-chart_speed {_LINE}",),
    "Kernels": (".film[data-step]", f".st-key-chart_order {_PLOT}"),
    "LRN": (f".st-key-chart_lrn {_PLOT}", ".st-key-maps_lrn svg"),
    "Probe picture": (".st-key-maps_probe svg",),
    "Layers": (f".st-key-chart_layers {_PLOT}",),
    "Validations": (f".st-key-chart_classes {_PLOT}",),
    "Recipe and log": (".st-key-raw_config",),
}


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass
class Figures:
    """What was measured, line by line; `begin` before each measurement notes how loaded the machine is."""

    lines: list[tuple[str, float, float, str, str, float]] = field(default_factory=list)
    load: float = 0.0

    def begin(self, what: str) -> None:
        self.load = os.getloadavg()[0]
        print(f"{time.strftime('%H:%M:%S')} {what} (load {self.load:.1f})", file=sys.stderr, flush=True)

    def add(
        self,
        what: str,
        values: list[float] | float,
        unit: str,
        *,
        most: float | None = None,
        least: float | None = None,
    ) -> None:
        """The median and the worst of some values, and whether the median keeps its target."""
        found = values if isinstance(values, list) else [values]
        middle = statistics.median(found)
        worst = min(found) if least is not None else max(found)
        target = f"≤ {most:g}" if most is not None else f"≥ {least:g}" if least is not None else ""
        missed = (most is not None and middle > most) or (least is not None and middle < least)
        self.lines.append(
            (what, middle, worst, unit, f"{target} {'MISSED' if missed else 'kept'}" if target else "", self.load)
        )
        print(f"    {what}: {middle:.3f} (worst {worst:.3f}) {unit} {self.lines[-1][4]}", file=sys.stderr, flush=True)

    def table(self) -> str:
        rows = [("what", "median", "worst", "unit", "target", "load")]
        rows += [
            (what, f"{middle:,.3f}", f"{worst:,.3f}", unit, target, f"{load:.1f}")
            for what, middle, worst, unit, target, load in self.lines
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if column in {1, 2, 5} else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        )


# --- places -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _workplace() -> Iterator[Path]:
    """A folder as a server is started from: with the settings, and an empty folder of runs."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        shutil.copytree(ROOT / ".streamlit", Path(folder) / ".streamlit")
        (Path(folder) / "runs").mkdir()
        yield Path(folder)


@dataclass(frozen=True)
class Server:
    address: str
    pid: int

    def memory(self) -> float:
        """Resident megabytes."""
        return _memory(self.pid)


def _memory(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"VmRSS:\s+([0-9]+) kB", text)
    return int(found[1]) / 1024 if found else math.nan


def _children(pid: int | str = "self") -> set[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text(encoding="ascii").split()}


@contextlib.contextmanager
def _server(folder: Path, app: Path = ROOT / "app" / "main.py") -> Iterator[Server]:
    before = _children()
    with served(app, folder) as address:
        (pid,) = _children() - before
        yield Server(address, pid)


@contextlib.contextmanager
def _visitor(browser: Browser, trouble: list[str] | None = None) -> Iterator[Page]:
    """A browser with nothing in its cache; what its console complains of goes into `trouble`."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    if trouble is not None:
        # Streamlit probes <page>/_stcore/* on a deep link and gets 404 before it finds its own path.
        page.on(
            "console",
            lambda message: (
                trouble.append(message.text)
                if message.type == "error" and "/_stcore/" not in str(message.location)
                else None
            ),
        )
        page.on("pageerror", lambda error: trouble.append(str(error)))
    try:
        yield page
    finally:
        context.close()


def _opened(page: Page, address: str, *selectors: str) -> float:
    return seconds(page, *selectors, act=lambda: page.goto(address, wait_until="commit"))


def _view(page: Page, name: str) -> float:
    """Seconds from the click on a view of a run until it is drawn."""
    settle(page)
    page.wait_for_timeout(300)
    button = page.locator(".st-key-pick_view_of_run button", has_text=name)
    return seconds(page, *_VIEWS[name], act=button.click)


# --- a long run -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LongRun:
    """A run written for the occasion; `spikes` are by chart and then by step."""

    directory: RunDirectory
    config: TrainConfig
    spikes: dict[str, dict[int, float]]


def _long_run(root: Path, *, steps_per_epoch: int = 500) -> LongRun:
    """100,000 records of steps, a validation for each epoch, layers every 100 steps, and 200 probes."""
    config = configured("quick", "built-in", epochs=RECORDS // steps_per_epoch, probes=PROBES)
    classes = [f"class{number}" for number in range(10)]
    network = config.described_network(len(classes))
    run = RunDirectory.create(
        root / "20260101-000000-long",
        {
            "format": FORMAT,
            "config": config.as_json(),
            "machine": {"device": "cpu"},
            "data": {"name": "written", "classes": classes, "train": steps_per_epoch * config.batch, "val": 4_000},
            "processes": 1,
            "versions": {},
            "created": time.time() - 5 * 3600,
        },
    )
    randomness = np.random.default_rng(0)
    spikes = _write_metrics(run, config, steps_per_epoch, randomness)
    names = [stage.name for stage in network.stages() if isinstance(stage.layer, LRN)]
    shapes = {stage.name: (stage.out_shape[0], *(min(side, 32) for side in stage.out_shape[1:]))
              for stage in network.stages() if stage.name in {"conv1", *names}}  # fmt: skip
    noise = randomness.normal(0, 0.01, (96, 3, 11, 11))
    waves = _waves(randomness)
    for step in sorted(schedule(RECORDS, PROBES)):
        share = math.log1p(step) / math.log1p(RECORDS)
        likely = randomness.dirichlet(np.ones(len(classes)))
        taken: dict[str, NDArray[Any]] = {"kernels": ((1 - share) * noise + share * waves).astype(np.float16)}
        for name, shape in shapes.items():
            maps = np.maximum(randomness.normal(0, 1 + 4 * share, shape), 0)
            taken[f"map/{name}"] = maps.astype(np.float16)
            if name in names:
                taken[f"before/{name}"] = (maps * (1.7 + share)).astype(np.float16)
                strengths = np.sqrt(np.square(maps).mean((1, 2)))
                taken[f"lrn/{name}"] = np.stack([(1.7 + share) * strengths, strengths]).astype(np.float32)
        taken["probabilities"] = likely.astype(np.float32)
        taken["label"] = np.array(3, np.int64)
        save(run.probe_path(step), taken)
    _say_running(run, RECORDS)
    return LongRun(run, config, spikes)


def _write_metrics(
    run: RunDirectory, config: TrainConfig, per_epoch: int, randomness: np.random.Generator
) -> dict[str, dict[int, float]]:
    steps = np.arange(1, RECORDS + 1)
    loss = 0.4 + 1.9 * np.exp(-steps / 20_000) + randomness.normal(0, 0.05, RECORDS)
    top1 = np.clip(0.9 - 0.7 * np.exp(-steps / 20_000) + randomness.normal(0, 0.02, RECORDS), 0.1, 0.98)
    speed = randomness.normal(300, 10, RECORDS)
    places = randomness.choice(np.arange(1_000, RECORDS - 1_000, 700), SPIKES, replace=False)
    for number, place in enumerate(places):
        low = bool(number % 2)
        loss[place] = 0.05 + 0.001 * number if low else 4 + 0.1 * number
        top1[place] = 0.01 + 0.0005 * number if low else 0.99 + 0.0001 * number
        speed[place] = 20 + number if low else 500 + number
    rate = config.learning_rate * (1 + np.cos(np.pi * steps / RECORDS)) / 2
    began = time.time() - 5 * 3600
    network = config.described_network(10)
    tensors = [f"{stage.name}.{kind}" for stage in network.stages() if stage.name[:4] in {"conv", "fc6", "fc7", "fc8"}
               for kind in ("weight", "bias")]  # fmt: skip
    with run.metrics_path.open("wb") as file:
        for index, step in enumerate(steps.tolist()):
            now = began + step * 0.17
            file.write(_train_line(step, step // per_epoch, loss[index], top1[index], speed[index], rate[index], now))
            if step % 100 == 0:
                moments = {
                    kind: {
                        name: dict(zip(("mean", "std", "norm"), randomness.lognormal(0, 0.1, 3).tolist(), strict=True))
                        for name in tensors
                    }
                    for kind in ("weights", "gradients")
                }
                file.write(orjson.dumps({"kind": "layers", "step": step, **moments}) + b"\n")
            if step % per_epoch == 0:
                right = float(top1[index])
                line = {
                    "kind": "val", "step": step, "epoch": step // per_epoch - 1, "loss": float(loss[index]),
                    "top1": right, "top5": min(right + 0.2, 1.0), "pictures": 4_000,
                    "per_class": randomness.uniform(0, 1, 10).tolist(), "seconds": 5.0, "time": round(now, 3),
                }  # fmt: skip
                file.write(orjson.dumps(line) + b"\n")
    at = [int(place) for place in places]
    return {
        "loss": {place + 1: float(loss[place]) for place in at},
        "accuracy": {place + 1: 100 * float(top1[place]) for place in at},
        "speed": {place + 1: round(float(speed[place]), 2) for place in at},
    }


def _train_line(step: int, epoch: int, loss: float, top1: float, speed: float, rate: float, now: float) -> bytes:
    record = {
        "kind": "train", "step": step, "epoch": epoch, "loss": float(loss), "top1": float(top1), "pictures": 64,
        "learning_rate": float(rate), "images_per_second": round(float(speed), 2), "waited_share": 0.004,
        "time": round(now, 3),
    }  # fmt: skip
    return orjson.dumps(record) + b"\n"


def _waves(randomness: np.random.Generator) -> NDArray[np.float64]:
    """96 gratings under a bell, each in a colour, as trained kernels are."""
    y, x = np.mgrid[-5:6, -5:6]
    angle, phase, pitch = (randomness.uniform(0, end, (96, 1, 1)) for end in (np.pi, 2 * np.pi, 1.5))
    wave = np.cos((0.5 + pitch) * (x * np.cos(angle) + y * np.sin(angle)) + phase) * np.exp(-(x**2 + y**2) / 18)
    colour = randomness.normal(0, 0.1, (96, 3, 1, 1))
    return np.asarray(wave[:, None] * colour)


def _say_running(run: RunDirectory, step: int) -> None:
    run.write_status(
        {
            "state": "running", "pid": os.getpid(), "heartbeat": time.time(), "step": step, "steps": 2 * RECORDS,
            "epoch": step // 500, "epochs": 400, "best": {}, "images_per_second": 300.0, "seconds_left": 20_000,
            "product_rate": 1e12, "memory": 1 << 30, "message": "", "warnings": [],
        }
    )  # fmt: skip


# --- part 1 -----------------------------------------------------------------------------------------------------------

_DRAWN = """(spikes) => Object.fromEntries(Object.entries(spikes).map(([name, wanted]) => {
    const plot = document.querySelector(`.st-key-chart_${name} .js-plotly-plot`);
    const { xaxis, yaxis } = plot._fullLayout;
    return [name, {
        given: plot._fullData.map((trace) => Array.from(trace.y)),
        paths: [...plot.querySelectorAll(".scatterlayer path.js-line")].map((path) => path.getAttribute("d")),
        places: wanted.map(([step, value]) => [xaxis.d2p(step), yaxis.d2p(value)]),
    }];
}))"""


def _seen(page: Page, spikes: dict[str, dict[int, float]]) -> tuple[float, float]:
    """Shares of the spikes that are among the points given to Plotly, and among the corners of the drawn SVG lines."""
    drawn = page.evaluate(_DRAWN, {name: list(wanted.items()) for name, wanted in spikes.items()})
    given, corners = list[bool](), list[bool]()
    for name, wanted in spikes.items():
        values = np.array([value for trace in drawn[name]["given"] for value in trace if value is not None])
        given += [bool(np.isclose(values, value, rtol=1e-9).any()) for value in wanted.values()]
        points = np.array([point for path in drawn[name]["paths"] for point in _corners(path)])
        # A point stands for the few records of its pixels, so a spike may lie a pixel or two beside its own step.
        corners += [bool((np.abs(points - place) <= (2.0, 0.75)).all(1).any()) for place in drawn[name]["places"]]
    return statistics.mean(given), statistics.mean(corners)


def _corners(path: str) -> list[tuple[float, float]]:
    """The corners of an SVG path, in pixels of the plot: Plotly writes them absolute, and short for straight pieces."""
    found, x, y = [], 0.0, 0.0
    for letter, text in re.findall("([A-Z])([^A-Z]*)", path):
        numbers = [float(number) for number in re.findall(r"-?[0-9.]+(?:e-?[0-9]+)?", text)]
        xs = [x] * len(numbers) if letter == "V" else numbers if letter == "H" else numbers[::2]
        ys = [y] * len(numbers) if letter == "H" else numbers if letter == "V" else numbers[1::2]
        found += zip(xs, ys, strict=True)
        x, y = found[-1]
    return found


def _long(browser: Browser, figures: Figures, rounds: int = 3) -> None:
    with _workplace() as folder:
        figures.begin("writing a run with 100,000 records and 200 probes")
        long = _long_run(folder / "runs")
        long.directory.write_status(long.directory.status() | {"state": "stopped"})
        long.directory.release()
        _opens(browser, figures, folder, long, rounds)
        long.directory.lock()
        try:
            _say_running(long.directory, RECORDS)
            _lives(browser, figures, folder, long)
        finally:
            long.directory.release()


def _opens(browser: Browser, figures: Figures, folder: Path, long: LongRun, rounds: int) -> None:
    bare = ("h1:has-text('One')", f".js-plotly-plot {_PLOT}")
    where = f"runs?run={long.directory.path.name}&view_of_run="
    found: dict[str, list[float]] = {}

    def add(what: str, took: float) -> None:
        found.setdefault(what, []).append(took)
        print(f"    {what} {took:.2f}", file=sys.stderr, flush=True)

    figures.begin("opening it")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as elsewhere, _server(Path(elsewhere), BARE) as server:
            for what in ("a bare page, server just started", "a bare page, server warm"):
                with _visitor(browser) as page:
                    add(what, _opened(page, server.address, *bare))
        with _server(folder) as server, _visitor(browser) as page:
            add("curves, server just started", _opened(page, f"{server.address}/{where}Curves", *_CHARTS))
        with _server(folder) as server:
            for what in ("curves, chosen in the list of runs", "curves, chosen again in another browser"):
                with _visitor(browser) as page:
                    _opened(page, f"{server.address}/runs", "h1:has-text('Runs')")
                    add(what, _chosen(page, long.directory.path.name))
        with _server(folder) as server:
            with _visitor(browser) as page:
                _opened(page, f"{server.address}/disagree", ".st-key-disagreement_chart .main-svg")
                settle(page)
            for what in ("curves, server that showed another page", "curves, again in another browser"):
                with _visitor(browser) as page:
                    add(what, _opened(page, f"{server.address}/{where}Curves", *_CHARTS))
                    for name in ("Kernels", "LRN", "Probe picture", "Layers", "Validations"):
                        first = "first time" if "showed" in what else "again"
                        add(f"click on {name}, {first}", _view(page, name))
                    seen = _seen_on_curves(page, long)
    for what, values in found.items():
        target = 2.0 if what.startswith("curves, chosen") else None
        figures.add(what, values, "s", most=target)
    warm = zip(found["curves, again in another browser"], found["a bare page, server warm"], strict=True)
    figures.add("curves in a new browser, over a bare page's time", [took / floor for took, floor in warm], "times")
    figures.add("extremes among the points given", 100 * seen[0], "%", least=100)
    figures.add("extremes among the corners of the SVG", 100 * seen[1], "%", least=100)


def _chosen(page: Page, name: str) -> float:
    """Seconds from the choice of a run on the page of all of them until its curves are drawn."""
    settle(page)
    page.locator("[data-testid='stSidebar']").get_by_role("combobox", name="Run").click()
    option = page.get_by_role("option", name=name)
    option.wait_for()
    return seconds(page, *_CHARTS, act=option.click)


def _seen_on_curves(page: Page, long: LongRun) -> tuple[float, float]:
    shares = []
    for view, charts in (("Curves", ("loss", "accuracy")), ("Speed", ("speed",))):
        _view(page, view)
        settle(page)
        shares.append(_seen(page, {name: long.spikes[name] for name in charts}))
    return min(given for given, _ in shares), min(corners for _, corners in shares)


def _lives(browser: Browser, figures: Figures, folder: Path, long: LongRun) -> None:
    """The same run, growing: what each redraw sends, and what stays behind."""
    run, step = long.directory, RECORDS
    with _server(folder) as server:
        for view, redraws in (("Kernels", 10), ("LRN", 10), ("Layers", 10), ("Curves", REDRAWS)):
            figures.begin(f"{view} of a run that lives, {redraws} redraws")
            sent: list[int] = []
            with _visitor(browser) as page:
                page.on(
                    "websocket",
                    lambda socket, sent=sent: socket.on("framereceived", lambda data: sent.append(len(data))),
                )
                tools = page.context.new_cdp_session(page)
                tools.send("Performance.enable")
                _opened(page, f"{server.address}/runs?run={run.path.name}&view_of_run={view}", *_VIEWS[view])
                settle(page)
                samples = []
                page.wait_for_timeout(6_000)  # two redraws, which allocate what stays
                begun = len(sent)
                used = _processor_seconds(server.pid)
                for number in range(redraws):
                    with run.metrics_path.open("ab") as file:
                        for _ in range(10):
                            step += 1
                            file.write(_train_line(step, step // 500, 0.4, 0.9, 300 + step % 7, 0.01, time.time()))
                    _say_running(run, step)
                    page.wait_for_timeout(2_000)
                    if number in {0, redraws // 2, redraws - 1}:
                        samples.append((_browser_state(tools), server.memory()))
                figures.add(f"{view}: sent for each redraw", sum(sent[begun:]) / redraws / 1024, "KiB")
                figures.add(
                    f"{view}: server's processor time for each",
                    1000 * (_processor_seconds(server.pid) - used) / redraws, "ms",
                )  # fmt: skip
                (first, rss_first), (middle, rss_middle), (last, rss_last) = samples
                text = f"{first['heap']:.1f} → {middle['heap']:.1f} → {last['heap']:.1f}"
                figures.add(f"{view}: JS heap {text}, growth", last["heap"] - first["heap"], "MiB")
                figures.add(f"{view}: DOM nodes {first['nodes']:.0f}, growth", last["nodes"] - first["nodes"], "nodes")
                figures.add(
                    f"{view}: server's memory {rss_first:.0f} → {rss_middle:.0f} → {rss_last:.0f}, growth",
                    rss_last - rss_first, "MiB",
                )  # fmt: skip


def _browser_state(tools: Any) -> dict[str, float]:
    tools.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in tools.send("Performance.getMetrics")["metrics"]}
    return {"heap": found["JSHeapUsedSize"] / 2**20, "nodes": found["Nodes"], "listeners": found["JSEventListeners"]}


def _processor_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


# --- part 2 -----------------------------------------------------------------------------------------------------------


class Elsewhere:
    """What a browser on another machine asks of the server: the page, and its fragments again when they are due."""

    def __init__(self, server: Server, page: str, query: str) -> None:
        self._url = f"{server.address.replace('http', 'ws')}/_stcore/stream"
        self._page, self._query = page, query
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.received = self.redraws = 0
        self.charts: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        due: dict[str, tuple[float, float]] = {}
        with connect(self._url, max_size=None, compression=None) as socket:
            socket.send(self._asked(None))
            while not self._over.is_set():
                now = time.monotonic()
                for fragment, (when, interval) in list(due.items()):
                    if when <= now:
                        due[fragment] = (now + interval, interval)
                        socket.send(self._asked(fragment))
                        self.redraws += 1
                with contextlib.suppress(TimeoutError):
                    data = socket.recv(timeout=0.1)
                    self.received += len(data)
                    message = ForwardMsg()
                    message.ParseFromString(data if isinstance(data, bytes) else data.encode())
                    kind = message.WhichOneof("type")
                    if kind == "auto_rerun":
                        told = message.auto_rerun
                        due[told.fragment_id] = (now + told.interval, told.interval)
                    elif kind == "stop_auto_rerun":
                        for fragment in message.stop_auto_rerun.fragment_ids:
                            due.pop(fragment, None)
                    elif kind == "delta" and message.delta.new_element.bidi_component.component_name.endswith(_CHART):
                        self.charts.add(message.delta.new_element.bidi_component.id)

    def _asked(self, fragment: str | None) -> bytes:
        message = BackMsg()
        state = message.rerun_script
        state.query_string, state.page_name = self._query, self._page
        if fragment is not None:
            state.fragment_id, state.is_auto_rerun = fragment, True
        return bytes(message.SerializeToString())


def _speed(run: RunDirectory, begun: float, ended: float) -> float:
    """Pictures over the seconds of the steps that ended between two times: validations and checkpoints left out."""
    pictures, taken = 0, 0.0
    for record in run.metrics():
        if record["kind"] == "train" and begun <= record["time"] <= ended:
            pictures += record["pictures"]
            taken += record["pictures"] / record["images_per_second"]
    return pictures / taken if taken else math.nan


@contextlib.contextmanager
def _training(root: Path, config: TrainConfig) -> Iterator[RunDirectory]:
    """A real training, from a page's own function, until it has made a few steps; ended after."""
    run = launching.start(root, config)
    try:
        deadline = time.monotonic() + 180
        while run.status().get("step", 0) < 20:
            if time.monotonic() > deadline or run.condition() in {"failed", "gone"}:
                raise RuntimeError(f"no training: it is {run.condition()}, {run.status().get('message')}")
            time.sleep(0.5)
        yield run
    finally:
        with contextlib.suppress(launching.LaunchError):
            launching.end(run, at_once=True)
        time.sleep(0.5)
        launching.reap()


@contextlib.contextmanager
def _busy() -> Iterator[tuple[Server, RunDirectory]]:
    """A server, and a real training beside it on both cores."""
    config = configured("quick", "built-in", epochs=400)
    with _workplace() as folder, _server(folder) as server, _training(folder / "runs", config) as run:
        yield server, run


def _answers(browser: Browser, figures: Figures) -> None:
    with _busy() as (server, run):
        _answered(browser, figures, server, run)


def _beside(browser: Browser, figures: Figures) -> None:
    with _busy() as (server, run):
        time.sleep(LIVELY_SECONDS)
        _ratios(browser, figures, server, run)


def _answered(browser: Browser, figures: Figures, server: Server, run: RunDirectory) -> None:
    figures.begin("answers while it trains")
    found: dict[str, list[float]] = {}
    with _visitor(browser) as page:
        _opened(page, f"{server.address}/runs?run={run.path.name}&view_of_run=Curves", *_CHARTS)
        for number in range(ANSWERS + 1):  # the first of each is to have loaded what stays
            turn: dict[str, float] = {}
            for view in ("Kernels", "LRN", "Curves"):
                turn[f"click on {view}"] = _view(page, view)
            settle(page)
            shown = "document.querySelector('.st-key-chart_loss .js-plotly-plot')?.layout?.yaxis?.type"
            before = page.evaluate(f"() => {shown}")
            toggle = page.locator(".st-key-curves_log label").first
            turn["a toggle above the curves"] = seconds(
                page, act=toggle.click, until=f"before => ![before, undefined].includes({shown})", argument=before
            )
            turn["switch to another page"] = switch(
                page, "Why tools disagree", "h1:has-text('Why tools')", ".st-key-disagreement_chart .main-svg"
            )
            link = page.get_by_role("link", name="Runs", exact=True)
            settle(page)
            turn["switch back to the run"] = seconds(page, *_CHARTS, act=link.click)
            for what, took in turn.items() if number else ():
                found.setdefault(what, []).append(took)
    for what, values in found.items():
        figures.add(f"training beside: {what}", values, "s", most=1.0)


def _ratios(browser: Browser, figures: Figures, server: Server, run: RunDirectory) -> None:
    query = f"run={run.path.name}&view_of_run="
    watched: dict[str, Callable[[], contextlib.AbstractContextManager[Any]]] = {
        "Curves, browser on the same cores": _at(browser, server, query, "Curves"),
        "Curves, browser elsewhere": lambda: Elsewhere(server, "runs", f"{query}Curves"),
        "Kernels, browser on the same cores": _at(browser, server, query, "Kernels"),
    }
    figures.begin("speed of the training, watched and not")
    alone = [_watched(contextlib.nullcontext(), server, run)[0]]
    speeds: dict[str, list[float]] = {who: [] for who in watched}
    used: dict[str, list[tuple[float, float]]] = {who: [] for who in watched}
    for _ in range(TURNS):
        for who, watching in watched.items():
            speed, *processor = _watched(watching(), server, run)
            speeds[who].append(speed)
            used[who].append((processor[0], processor[1]))
            print(f"    {who}: {speed:.1f} (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)
        alone.append(_watched(contextlib.nullcontext(), server, run)[0])
        print(f"    nobody: {alone[-2]:.1f}, {alone[-1]:.1f}", file=sys.stderr, flush=True)
    figures.add("training with nobody watching", alone, "images/s")
    for who, found in speeds.items():
        # Against nobody before and after: other programs come and go.
        ratios = [200 * speed / (alone[turn] + alone[turn + 1]) for turn, speed in enumerate(found)]
        figures.add(f"training watched: {who}", ratios, "% of its speed", least=95)
        figures.add(f"    the server meanwhile ({who})", [share for share, _ in used[who]], "% of a core")
        figures.add(f"    the browser meanwhile ({who})", [share for _, share in used[who]], "% of a core")


def _watched(
    watching: contextlib.AbstractContextManager[Any], server: Server, run: RunDirectory
) -> tuple[float, float, float]:
    """The training's speed for a while, and the shares of a core that server and browser took meanwhile, in %."""
    with watching as watcher:
        _wait(watcher, 4)
        began, busy = time.time(), (_processor_seconds(server.pid), _browser_seconds())
        _wait(watcher, PART_SECONDS)
        speed = _speed(run, began, time.time())
        taken = _processor_seconds(server.pid) - busy[0], _browser_seconds() - busy[1]
        if isinstance(watcher, Elsewhere) and not (watcher.charts and watcher.redraws > PART_SECONDS / 4):
            raise RuntimeError(f"the client saw {len(watcher.charts)} charts in {watcher.redraws} redraws")
    return speed, 100 * taken[0] / PART_SECONDS, 100 * taken[1] / PART_SECONDS


def _browser_seconds() -> float:
    """Processor time so far of every process of the browser that was started from here."""
    total, unseen = 0.0, list(_children())
    while unseen:
        pid = unseen.pop()
        with contextlib.suppress(OSError):
            unseen += _children(pid)
            if b"chromium" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                total += _processor_seconds(pid)
    return total


def _wait(watcher: Any, duration: float) -> None:
    """A browser's page is waited for by Playwright, whose messages nobody else would read."""
    if hasattr(watcher, "wait_for_timeout"):
        watcher.wait_for_timeout(duration * 1000)
    else:
        time.sleep(duration)


def _at(
    browser: Browser, server: Server, query: str, view: str
) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    @contextlib.contextmanager
    def watching() -> Iterator[Page]:
        with _visitor(browser) as page:
            _opened(page, f"{server.address}/runs?{query}{view}", *_VIEWS[view])
            settle(page)
            yield page

    return watching


# --- part 3 -----------------------------------------------------------------------------------------------------------

_STATE = """() => {
    const plot = document.querySelector(".st-key-chart_loss .js-plotly-plot");
    const traces = plot?._fullData?.filter((trace) => /low$|range$/.test(trace.name)) ?? [];
    return {
        title: document.querySelector("h1")?.textContent,
        text: document.querySelector("[data-testid=stMain]").innerText,
        losses: traces.flatMap((trace) => Array.from(trace.y)),
        film: Number(document.querySelector(".film")?.dataset.step ?? -1),
    };
}"""


def _sessions(browser: Browser, figures: Figures) -> None:
    views = ("Curves", "Kernels", "LRN", "Layers", "Recipe and log")
    tiny = {
        "network": "alexnet-2012@67", "hidden": 32, "side": 76, "batch": 8, "threads": 1, "layers_every": 20,
        "fused_lrn": "off", "precision": "float32", "probes": 50,
    }  # fmt: skip
    with _workplace() as folder, _server(folder) as server, contextlib.ExitStack() as stack:
        runs = [
            stack.enter_context(_training(folder / "runs", configured("quick", "built-in", **tiny, max_steps=steps)))
            for steps in (45_678, 56_789)
        ]
        figures.begin(f"{SESSIONS} browsers at two trainings")
        before, trouble = server.memory(), list[str]()
        pages = []
        for number in range(SESSIONS):
            page = stack.enter_context(_visitor(browser, trouble))
            view = views[number // 2 % len(views)]
            page.goto(f"{server.address}/runs?run={runs[number % 2].path.name}&view_of_run={view.replace(' ', '%20')}")
            page.wait_for_selector(_VIEWS[view][0], timeout=60_000)
            pages.append(page)
        memory, mistakes, looks, trainers = [server.memory()], list[str](), 0, set[int]()
        advanced = [0] * SESSIONS
        until = time.monotonic() + SESSION_SECONDS
        while time.monotonic() < until:
            states = [page.evaluate(_STATE) for page in pages]
            known = [_known(run) for run in runs]
            for number, state in enumerate(states):
                step = _mistake(state, runs[number % 2], known[number % 2], mistakes)
                advanced[number] += step > 0
                looks += 1
            trainers.add(len(_trainers()))
            memory.append(server.memory())
            pages[0].wait_for_timeout(1_000)
        figures.add(f"looks at {SESSIONS} browsers", float(looks), "looks")
        figures.add("looks that showed another run's, or what no run said", float(len(mistakes)), "looks", most=0)
        figures.add("browsers that showed a step", float(sum(map(bool, advanced))), "browsers", least=SESSIONS)
        figures.add("console errors", float(len(trouble)), "errors", most=0)
        figures.add("trainer processes at once", [float(count) for count in trainers], "processes", most=2)
        third = len(memory) // 3
        figures.add(f"server's memory: {before:.0f} before, greatest with {SESSIONS}", max(memory), "MiB")
        grown = statistics.mean(memory[-third:]) - statistics.mean(memory[third : 2 * third])
        figures.add("growth from the second third of the minute to the last", grown, "MiB")
        for complaint in [*mistakes[:5], *trouble[:5]]:
            print(complaint, file=sys.stderr)
        for page in pages:
            page.context.close()
        time.sleep(5)
        figures.add("server's memory after they have left", server.memory(), "MiB")


def _known(run: RunDirectory) -> tuple[set[float], int, int]:
    """Losses, the latest step and all steps, as the run's own files have them."""
    records = [record for record in run.metrics() if record["kind"] == "train"]
    return {record["loss"] for record in records}, records[-1]["step"], int(run.status()["steps"])


def _mistake(state: Any, run: RunDirectory, known: tuple[set[float], int, int], mistakes: list[str]) -> int:
    """Notes what a page shows that is not its run's; returns the step it shows, 0 for none."""
    losses, step, steps = known
    shown = re.search(r"step ([0-9,]+) of ([0-9,]+)", state["text"])
    at, of = (int(one.replace(",", "")) for one in shown.groups()) if shown else (0, steps)
    if state["title"] != run.path.name:
        mistakes.append(f"{run.path.name}: the title is {state['title']}")
    if of != steps or at > step:
        mistakes.append(f"{run.path.name}: step {at} of {of}, and it is at {step} of {steps}")
    if foreign := [loss for loss in state["losses"] if loss is not None and loss not in losses]:
        mistakes.append(f"{run.path.name}: {len(foreign)} losses of no record, {foreign[:3]}")
    if state["film"] >= 0 and not run.probe_path(state["film"]).is_file():
        mistakes.append(f"{run.path.name}: its film shows step {state['film']}, which it has not")
    return at


def _trainers() -> list[int]:
    """Processes that train and were started from here."""
    found = []
    for pid in _children():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            found += [pid] * (b"alexnet" in words and b"train" in words)
    return found


# --- all --------------------------------------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Browser, Figures], None]] = {
    "long": _long,
    "answers": _answers,
    "beside": _beside,
    "sessions": _sessions,
}


def main() -> None:
    """Measure and print."""
    asked = sys.argv[1:] or list(PARTS)
    if unknown := set(asked) - set(PARTS):
        sys.exit(f"no part {', '.join(sorted(unknown))}: there are {', '.join(PARTS)}")
    figures = Figures()
    try:
        with sync_playwright() as play:
            browser = launch(play)
            for part in asked:
                PARTS[part](browser, figures)
            browser.close()
    finally:
        print(figures.table())
    print(
        json.dumps(
            {
                "figures": {line[0].strip(): round(line[1], 3) for line in figures.lines},
                "parts": asked,
                "machine": machine() | {"system": platform.platform()},
                "versions": {name: version(name) for name in ("streamlit", "plotly", "torch", "playwright")},
            }
        )
    )


if __name__ == "__main__":
    main()
