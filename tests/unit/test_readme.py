"""What README says and shows, held to what is there.  Its commands are run by test_readme_commands.py."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from alexnet.bundled import GENERATED, IMAGENETTE, Bundle
from alexnet.presets import PRESETS
from alexnet.zoo import ALEXNET_2012
from analysis import ablation_tables, card, formats, shipped, tables
from analysis.costs import cost_table
from app import parts_found
from tests import pictures

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", README)
TARGETS = list(dict.fromkeys(one or other for one, other in LINKS))
SHOWN = [target for target in TARGETS if target.startswith("app/screenshots/")]


def _section(title: str) -> str:
    """What stands under a heading of the second level."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_table_is_what_the_command_prints() -> None:
    _, _, after = README.partition("<!-- table: alexnet-2012 -->\n")
    shown, _, _ = after.partition("<!-- end of table -->")
    assert shown == formats.write(tables.stage_table(cost_table(ALEXNET_2012)), "markdown")


@pytest.mark.parametrize("one", parts_found.shipped(), ids=lambda one: one.name)
def test_the_table_of_an_ablation_is_that_of_its_results(one: parts_found.Listed) -> None:
    """What README prints is `python -m analysis ablation`'s table, and its command the one that makes it."""
    assert one.found is not None, one.trouble
    _, _, after = README.partition(f"<!-- ablation: {one.name} -->\n")
    shown, _, _ = after.partition("<!-- end of table -->")
    effects = ablation_tables.effects_table(one.found)
    assert shown == formats.write(effects, "markdown")
    if one.name == "figure-1":
        assert formats.write(ablation_tables.speed_table(one.found), "markdown") in README
    printed = " ".join(re.sub(r"\\\n", " ", README).split())
    assert one.found.command.replace("ablate DATA", "ablate PACK") in printed


def test_every_link_leads_somewhere() -> None:
    titles = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    assert len(TARGETS) > len(SHOWN) > 8
    for target in TARGETS:
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            assert (ROOT / unquote(target.partition("#")[0])).is_file(), target


def test_every_page_is_in_a_picture() -> None:
    pages = re.findall(r"screens/(\w+)\.py\", title=\"([^\"]+)\"", (ROOT / "app" / "main.py").read_text("utf-8"))
    assert sorted(name for name, _ in pages) == sorted(shot.name for shot in pictures.SHOTS)
    assert all(f"**{title}**" in README or f"![{title}" in README for _, title in pages)
    there = [shot.name for shot in pictures.SHOTS if shot.needs.exists()]
    assert sorted(SHOWN) == sorted(f"app/screenshots/{name}.webp" for name in [*there, pictures.FILM])
    assert sorted(SHOWN) == sorted(f"app/screenshots/{path.name}" for path in pictures.SCREENSHOTS.iterdir())


def test_pictures_are_large_enough_to_read_and_small_enough_to_ship() -> None:
    sizes = {}
    for shown in SHOWN:
        path = ROOT / shown
        sizes[shown] = path.stat().st_size
        with Image.open(path) as picture:
            assert picture.format == "WEBP"
            assert picture.width >= 1_100
            assert np.asarray(picture.convert("L"), float).std() > 10  # something is on it
    assert max(sizes.values()) <= pictures.MOST_BYTES == 120_000
    assert sum(sizes.values()) <= pictures.MOST_TOGETHER == 1_200_000


def test_the_strip_goes_from_noise_to_the_end_of_a_run_in_the_box() -> None:
    """`python -m tests.pictures` made it of these moments."""
    shown = pictures.moments(pictures.FILMED)
    assert shown[0] == pictures.Moment(0, 0.0, None)
    last = Bundle(pictures.FILMED).run.status()
    assert shown[-1].step == last["steps"]
    assert shown[-1].right == last["val"]["top1"]
    assert 8 <= len(shown) <= 10
    assert sum(0 < moment.seconds <= 130 for moment in shown) >= 4  # the first two minutes
    assert [moment.seconds for moment in shown] == sorted(moment.seconds for moment in shown)


def test_the_strip_is_that_of_the_run(tmp_path: Path) -> None:
    pictures.save(pictures.strip(pictures.FILMED), tmp_path / "film.webp")
    ours, shipped = (
        np.asarray(Image.open(path).convert("RGB"), float)
        for path in (tmp_path / "film.webp", pictures.SCREENSHOTS / "film.webp")
    )
    assert ours.shape == shipped.shape, "run `python -m tests.pictures film`"
    assert np.abs(ours - shipped).mean() < 2, "run `python -m tests.pictures film`"


@pytest.mark.parametrize("crops", ["centre", "ten"])
def test_what_is_said_of_the_network_in_the_box_is_in_its_card(crops: str) -> None:
    results, said = IMAGENETTE.results(), _section("The networks in the box")
    assert f"{100 * card.accuracy(results, 'float16', crops)['top1']:.2f} %" in said
    (jittered,) = shipped.jittered(results["recipe"])
    top1 = card.accuracy(results, "float16", "ten", jittered)["top1"]
    assert f"{100 * top1:.2f} % with ten crops of pictures at {jittered[0]} pixels" in said
    assert top1 >= 0.86
    counts = (results["network"]["parameters"], results["network"]["base"]["parameters"])
    assert "{:.1f} million of its {:.0f} million parameters".format(*(count / 1e6 for count in counts)) in said


def test_what_is_said_of_the_second_one_is_in_its_card() -> None:
    top1 = card.accuracy(GENERATED.results(), "float16", "centre")["top1"]
    minutes = GENERATED.results()["training"]["seconds"] / 60
    assert f"top-1 {100 * top1:.1f} % in {minutes:.0f} minutes" in README
    assert f"{minutes:.0f} minutes on one core" in _section("From noise to kernels in minutes")


def test_every_preset_is_in_the_table() -> None:
    assert re.findall(r"^\| `([\w-]+)` \|", _section("Train on photographs of your own"), re.MULTILINE) == [
        preset.name for preset in PRESETS
    ]


def test_every_requirement_says_why() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        unexplained = [line for line in lines if line and not line.startswith(("#", "-r")) and "#" not in line]
        assert unexplained == []
