from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def newly_loaded(*modules: str) -> set[str]:
    """Top-level packages that a fresh Python has after importing these and did not have before."""
    code = (
        "import sys; before = set(sys.modules);"
        f"import {', '.join(modules)};"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        f"alexnet.{name}"
        for name in (
            *("spec", "zoo", "memory", "serial", "config", "presets", "runs", "commandline", "about", "archive"),
            *("portable", "launch", "course", "plan", "schedules", "words", "bundled"),
        )
    ],
)
def test_networks_as_data_need_the_standard_library_only(module: str) -> None:
    assert newly_loaded(module) - sys.stdlib_module_names == {"alexnet"}


@pytest.mark.parametrize(
    "module", ["costs", "tables", "conventions", "formulas", "receptive", "run_comparison", "__main__"]
)
def test_tables_need_neither_torch_nor_anything_else_to_install(module: str) -> None:
    assert newly_loaded(f"analysis.{module}") - sys.stdlib_module_names == {"alexnet", "analysis"}


def test_this_test_would_see_torch() -> None:
    assert {"torch", "alexnet"} <= newly_loaded("alexnet.layers")


def files(folder: str) -> list[Path]:
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports anywhere, also inside functions and for type checkers."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = path.relative_to(ROOT).with_suffix("").parts[: -node.level]
                base = ".".join([*package, *filter(None, [base])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def tops(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("alexnet", "analysis"),
        ("alexnet", "app"),
        ("alexnet", "streamlit"),
        ("analysis", "app"),
        ("analysis", "streamlit"),
        ("analysis", "plotly"),
        ("app/figures", "streamlit"),
        ("app/figures", "torch"),
    ],
)
def test_imports_go_one_way(folder: str, forbidden: str) -> None:
    assert [str(path.relative_to(ROOT)) for path in files(folder) if forbidden in tops(path)] == []


def test_only_the_module_that_measures_imports_fvcore() -> None:
    users = {path.name for folder in ("alexnet", "analysis", "app") for path in files(folder) if "fvcore" in tops(path)}
    assert users == {"measured.py"}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import torch.nn", "torch.nn"),
        ("from torch import nn", "torch.nn"),
        ("def f():\n    import torch", "torch"),
        ("if TYPE_CHECKING:\n    from torch import Tensor", "torch.Tensor"),
        ("from . import theme", "app.figures.theme"),
        ("from ..screens import costs", "app.screens.costs"),
        ("from .theme import INK", "app.figures.theme.INK"),
    ],
)
def test_imports_are_found_wherever_they_stand(line: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _path, **_options: line)
    assert list(imported(ROOT / "app" / "figures" / "made_up.py")) == [name]
