"""What the views of a run and the comparison say of damage, of small numbers and of a common past."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from alexnet.about import write_about
from app import boxed, queries
from tests.made_run import SUPPRESSED, made_run, write_records

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[..., AppTest]

pytestmark = pytest.mark.xdist_group("runs_page")

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"


@pytest.fixture
def show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a page with these words in its address, where the folder of runs is `tmp_path` / runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queries.Verification, "start", lambda _: None)

    def opened(page: str = "runs", **address: str) -> AppTest:
        app = AppTest.from_file(str(MAIN), default_timeout=60)
        app.query_params.update(address)
        return healthy(app.switch_page(f"screens/{page}.py").run())

    return opened


def healthy(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].stack_trace
    return app


def words(app: AppTest) -> str:
    parts = (app.markdown, app.caption, app.info, app.warning, app.error)
    return "\n".join(element.value for part in parts for element in part).replace("\\", "")


def view(app: AppTest, name: str) -> AppTest:
    app.segmented_control(key="pick_view_of_run").set_value(name)
    return healthy(app.run())


def table(app: AppTest, *columns: str) -> Any:
    (found,) = [frame.value for frame in app.dataframe if set(columns) <= set(frame.value.columns)]
    return found


def test_every_view_that_reads_records_names_the_damaged_lines(show: Open, tmp_path: Path) -> None:
    run = made_run(tmp_path / "runs" / "one")
    lines = run.metrics_path.read_bytes().splitlines(keepends=True)
    run.metrics_path.write_bytes(b"".join([*lines[:2], b"{\n", *lines[2:6], b"[]\n", *lines[6:]]))
    app = show(run="one")
    for name in ("Curves", "Speed", "Validations", "Layers"):
        (said,) = [one.value for one in view(app, name).warning if "metrics.jsonl" in one.value]
        assert said.startswith("2 lines of metrics.jsonl could not be read and are left out")
        assert said.endswith("They are lines 3 and 8.")


def test_every_view_that_reads_probes_names_the_damaged_ones(show: Open, tmp_path: Path) -> None:
    run = made_run(tmp_path / "runs" / "one")
    run.probe_path(5).write_bytes(b"PK")
    app = show(run="one")
    for name in ("Kernels", "LRN", "Probe picture"):
        app = view(app, name)
        assert [(one.label, one.icon) for one in app.expander] == [("1 moment cannot be shown", ":material/warning:")]
        assert "step 5: runs/one/probes/step-000000005.npz is not a probe that can be shown" in words(app)
        assert not app.error


def test_small_shares_are_not_rounded_to_nothing(show: Open, tmp_path: Path) -> None:
    made_run(tmp_path / "runs" / "one")
    app = show(run="one", view_of_run="LRN")
    # In percent, shown with four digits.
    assert list(table(app, "norm1")["norm1"]) == pytest.approx([100 * SUPPRESSED] * 7, rel=1e-3)
    columns = json.loads(app.dataframe[0].proto.columns)
    assert columns["norm1"]["type_config"]["format"] == "%.4g %%"
    app = view(app, "Layers")
    assert list(table(app, "update")["update"]) == pytest.approx([1e-3 * 0.5 / 2])
    assert json.loads(app.dataframe[0].proto.columns)["update"]["type_config"]["format"] == "%.4g"


def test_a_table_of_answers_has_the_same_columns_at_every_moment(show: Open, tmp_path: Path) -> None:
    made_run(tmp_path / "runs" / "one", moments=(0, 5))
    found = table(show(run="one", view_of_run="Probe picture"), "class_0")
    assert list(found.columns) == ["step", "class_0", "class_1", "class_2"]
    assert list(found["class_2"]) == pytest.approx([50.0, 50.0])


def test_a_branch_and_its_parent_are_compared_by_what_is_their_own(show: Open, tmp_path: Path) -> None:
    parent = made_run(tmp_path / "runs" / "aaa", moments=())
    write_about(parent.path, name="The parent")
    branch = {"run": "aaa", "checkpoint": "best", "step": 20, "mode": "continue", "changed": {"epochs": [4, 5]}}
    child = made_run(tmp_path / "runs" / "bbb", moments=(), branch=branch)
    grandchild = made_run(tmp_path / "runs" / "ccc", moments=(), branch=branch | {"run": "bbb", "step": 30})
    for run, origin, step, top1 in ((child, parent, 20, 0.1), (grandchild, child, 30, 0.9)):
        run.inherit(origin, step)
        write_records(run, range(step + 1, 41), {30: top1, 40: top1}, start=2e9 + step)
    app = show("compare_runs", runs="bbb,aaa")
    assert "Up to step 20 bbb and The parent are one training, with 2 validations" in words(app)
    assert "The parent is better than bbb by 30.0 points" in words(app)  # 0.4 against 0.1; 0.2 is of both
    assert "bbb is drawn from step 20 on, where it parts from The parent." in words(app)
    assert list(table(app, "best_top1")["best_top1"]) == pytest.approx([0.2, 0.4])
    # An ancestor that is not compared is called as people call it, too.
    app = show("compare_runs", runs="ccc")
    assert "bbb goes on from the checkpoint “best” (step 20) of The parent, with epochs 4 → 5." in words(app)
    assert "aaa" not in words(app)


@pytest.mark.parametrize("view_of_run", ["Probe picture", "LRN"])
def test_what_a_bundle_leaves_out_is_not_called_lost(show: Open, tmp_path: Path, view_of_run: str) -> None:
    made_run(tmp_path / "runs" / "lost")
    boxed.put_all()
    app = show(run="generated-in-the-box", view_of_run=view_of_run)
    said = words(app)
    assert "Its maps are left out on purpose" in said
    assert "From “Built-in”, Trained on “Generated pictures”, in its sidebar" in said
    assert "holds no maps" not in said
    assert "is gone" not in said
    assert ("The probe picture is left out on purpose" in said) == (view_of_run == "Probe picture")
    assert [link.label for link in app.get("page_link")][-1:] == ["Activations"]
    assert "film_moment" not in [slider.key for slider in app.select_slider]
    app = show(run="lost", view_of_run=view_of_run)
    assert "on purpose" not in words(app)
    assert ("The file of the probe picture is gone." in words(app)) == (view_of_run == "Probe picture")
    assert "film_moment" in [slider.key for slider in app.select_slider]
