from __future__ import annotations

from pathlib import Path

from alexnet.zoo import ALEXNET_2012
from analysis import formats, tables
from analysis.costs import cost_table

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_is_what_the_command_prints() -> None:
    _, _, after = README.partition("<!-- table: alexnet-2012 -->\n")
    shown, _, _ = after.partition("<!-- end of table -->")
    assert shown == formats.write(tables.stage_table(cost_table(ALEXNET_2012)), "markdown")


def test_screenshot_exists_and_is_a_picture() -> None:
    assert "app/screenshot.png" in README
    assert (ROOT / "app" / "screenshot.png").read_bytes().startswith(b"\x89PNG")


def test_every_requirement_says_why() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        unexplained = [line for line in lines if line and not line.startswith(("#", "-r")) and "#" not in line]
        assert unexplained == []
