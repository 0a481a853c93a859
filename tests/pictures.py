"""The pictures in README: every page of the app, and conv1's kernels as they form; in app/screenshots/.

    python -m tests.pictures [NAME …]

With names, only those.  Pages are shown by the system's Chromium and served from a folder that is thrown away, where
the trainings in the box are the runs.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import sync_playwright

from alexnet.about import write_about
from alexnet.config import TrainConfig
from alexnet.runs import RunDirectory
from analysis import film, learning
from analysis.formats import percent
from analysis.history import History
from analysis.sheets import TOWER_INK
from tests.serving import ROOT, launch, served, settle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Page as Tab

    from analysis.curves import Curves

SCREENSHOTS = ROOT / "app" / "screenshots"
TRAINED = ROOT / "alexnet" / "trained"
FILM = "film"
FILMED = TRAINED / "generated"
"""The run in the box whose kernels make the strip."""
NAMES = {"imagenette": "Photographs of ten kinds", "generated": "Generated pictures"}
"""What the runs in the box are called on the pages that list them."""
WIDE, HIGH = 1440, 900
SHOWN = 1200
"""Pixels that a picture is wide in the end."""
MOST_BYTES, MOST_TOGETHER = 120_000, 1_200_000
_QUIET = 12  # looks that must be alike, a quarter of a second apart
_PATIENCE = 400


@dataclass(frozen=True, slots=True)
class Shot:
    """A page's picture: its file in screens/, address, what must be there first, and what is scrolled to the top."""

    name: str
    address: str
    shows: str
    top: str = ""
    needs: Path = TRAINED
    """Without it the page has nothing to show yet, and there is no picture of it."""


SHOTS = (
    Shot("first", "/", ".st-key-first_answers .main-svg"),
    Shot("architecture", "/architecture?stage=conv2", "text=figures agree"),
    Shot("compare", "/compare", ".st-key-totals_chart .main-svg"),
    Shot("disagree", "/disagree", ".st-key-disagreement_chart .main-svg"),
    Shot("start", "/start?data=built-in&preset=quick", ".js-plotly-plot .main-svg"),
    Shot("runs", "/runs?run=imagenette", ".st-key-chart_loss .main-svg"),
    Shot("compare_runs", "/compare_runs", ".js-plotly-plot .main-svg"),
    Shot("parts", "/parts", ".js-plotly-plot .main-svg", needs=TRAINED / "ablation"),
    Shot("kernels", "/kernels?kernel=14", ".st-key-kernel_figure .main-svg"),
    Shot("activations", "/activations?picture=parachute&stage_seen=relu1", "svg.panels"),
    Shot("lrn", "/lrn?picture=cat&lrn_alpha=0.1", ".st-key-lrn_maps svg.panels", top=".st-key-pick_lrn_n"),
)


# --- pages -----------------------------------------------------------------------------------------------------------


def pages(shots: Sequence[Shot], folder: Path = SCREENSHOTS) -> None:
    """Takes these pictures, each from a visitor of its own."""
    with tempfile.TemporaryDirectory() as elsewhere, sync_playwright() as play:
        place = Path(elsewhere)
        (place / ".streamlit").symlink_to(ROOT / ".streamlit")
        runs_of_the_box(place / "runs")
        with served(ROOT / "app" / "main.py", place) as address:
            browser = launch(play)
            for shot in shots:
                context = browser.new_context(viewport={"width": WIDE, "height": HIGH}, color_scheme="light")
                picture = _taken(context.new_page(), address, shot, elsewhere)
                save(picture, folder / f"{shot.name}.webp")
                context.close()
            browser.close()


def runs_of_the_box(folder: Path) -> None:
    """Copies of all shipped trainings as runs that pages list, with names."""
    for run in sorted(path.parent for path in TRAINED.glob("*/status.json")):
        shutil.copytree(run, folder / run.name)
        write_about(folder / run.name, name=NAMES.get(run.name, run.name))


def _taken(tab: Tab, address: str, shot: Shot, place: str) -> Image.Image:
    tab.goto(f"{address}{shot.address}")
    tab.locator(shot.shows).first.wait_for(timeout=120_000)
    settle(tab)
    if shot.top:
        tab.locator(shot.top).first.evaluate("element => element.scrollIntoView()")
    tab.evaluate(_HIDDEN, place)
    before, alike = b"", 0
    for _ in range(_PATIENCE):
        tab.wait_for_timeout(250)
        now = tab.screenshot(animations="disabled", caret="hide")
        alike = alike + 1 if now == before else 0
        if alike == _QUIET:
            break
        before = now
    else:
        raise RuntimeError(f"{shot.address} did not come to rest")
    found = Image.open(io.BytesIO(now)).convert("RGB")
    return found.resize((SHOWN, round(SHOWN * found.height / found.width)), Image.Resampling.LANCZOS)


_HIDDEN = """place => {
  for (const text of document.querySelectorAll("p")) if (text.innerText.includes(place)) text.style.opacity = 0;
}"""  # the name of a folder that is gone by then helps nobody


# --- the film --------------------------------------------------------------------------------------------------------

TARGETS = (0, 10, 20, 40, 60, 80, 120, 180, 300)
"""Seconds of training at which the strip shows the moment that is nearest; the end comes last."""
_ROWS, _COLUMNS = 2, 8
_TILE, _BETWEEN, _MARGIN = 24, 2, 24
_INK, _FAINT, _PAPER = "#1f2328", "#5b6672", "#ffffff"


@dataclass(frozen=True, slots=True)
class Moment:
    """One of the strip's pictures: `seconds` of training, the share `right` at the last validation until then."""

    step: int
    seconds: float
    right: float | None


def moments(run: Path, targets: Sequence[float] = TARGETS) -> list[Moment]:
    """The moments of a run's film that are nearest to these seconds, and its last; each once."""
    curves = History(RunDirectory(run).metrics_path).update()
    found = [Moment(step, _seconds(step, curves), _right(step, curves)) for step in film.steps(run)]
    nearest = {min(found, key=lambda moment: abs(moment.seconds - target)).step for target in targets}
    return [moment for moment in found if moment.step in nearest | {found[-1].step}]


def _seconds(step: int, curves: Curves) -> float:
    """Of training until this step; pauses of a training that was stopped do not count."""
    hours = learning.places(curves, "time")
    return float(hours(np.array([step]))[0]) * 3600 if step and hours is not None else 0.0


def _right(step: int, curves: Curves) -> float | None:
    before = curves.val.top1[curves.val.step <= step]
    return float(before[-1]) if before.size else None


def strip(run: Path) -> Image.Image:
    """conv1's kernels at these moments, GPU 1 above GPU 2, under time and right answers."""
    config = TrainConfig.from_json(RunDirectory(run).config()["config"])
    screen = film.screen(config.described_network(None), _COLUMNS)
    shown = moments(run)
    frames = film.shown(run, [moment.step for moment in shown], screen).frames
    sheet = screen.sheet
    pitch = _TILE + _BETWEEN
    wide, rows = _COLUMNS * pitch, [-(-len(group.items) // _COLUMNS) for group in sheet.groups]
    head, gap = 58, 12
    high = head + sum(rows) * pitch + gap * (len(rows) - 1)
    across = -(-len(shown) // _ROWS)
    size = (across * (wide + _MARGIN) + _MARGIN, -(-len(shown) // across) * (high + _MARGIN) + _MARGIN)
    paper = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(paper)
    large, small = ImageFont.load_default(24), ImageFont.load_default(17)
    for number, (moment, frame) in enumerate(zip(shown, frames, strict=True)):
        left = _MARGIN + number % across * (wide + _MARGIN)
        top = _MARGIN + number // across * (high + _MARGIN)
        draw.text((left, top), _time(moment.seconds), _INK, large)
        said = "untrained" if not moment.step else f"step {moment.step:,}"
        said += "" if moment.right is None else f" · {percent(moment.right, digits=0)} right"
        draw.text((left, top + 31), said, _FAINT, small)
        down = top + head
        for group, lines in zip(sheet.groups, rows, strict=True):
            draw.line([(left - 8, down), (left - 8, down + lines * pitch - _BETWEEN)], TOWER_INK[group.tower], 3)
            for place, item in enumerate(group.items):
                tile = Image.fromarray(frame.tiles[item]).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
                paper.paste(tile, (left + place % _COLUMNS * pitch, down + place // _COLUMNS * pitch))
            down += lines * pitch + gap
    return paper


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


# --- all -------------------------------------------------------------------------------------------------------------


def save(picture: Image.Image, path: Path) -> None:
    """The picture as WebP, as good as fits into `MOST_BYTES`."""
    path.parent.mkdir(exist_ok=True)

    @cache
    def written(quality: int) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=6)
        return buffer.getvalue()

    qualities = range(90, 20, -5)
    at = bisect_left(qualities, True, key=lambda quality: len(written(quality)) <= MOST_BYTES)  # each takes a while
    if at == len(qualities):
        raise RuntimeError(f"{path.name} does not fit into {MOST_BYTES:,} bytes")
    content = written(qualities[at])
    path.write_bytes(content)
    print(f"{path}: {picture.width}×{picture.height}, {len(content):,} bytes")


def main() -> None:
    """Take what is asked for."""
    known = [shot.name for shot in SHOTS] + [FILM]
    asked = sys.argv[1:] or known
    if unknown := set(asked) - set(known):
        sys.exit(f"no picture {', '.join(sorted(unknown))}: there are {', '.join(known)}")
    if FILM in asked:
        save(strip(FILMED), SCREENSHOTS / f"{FILM}.webp")
    if shots := [shot for shot in SHOTS if shot.name in asked and shot.needs.exists()]:
        pages(shots)
    together = sum(path.stat().st_size for path in SCREENSHOTS.iterdir())
    print(f"{together:,} bytes together, of {MOST_TOGETHER:,}")


if __name__ == "__main__":
    main()
