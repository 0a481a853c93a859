"""What each part gives, through Streamlit's own test driver, on results that lie in a folder of the test's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from streamlit.testing.v1 import AppTest

from analysis.ablation import Ablation, Outcome, Variant
from analysis.kernel_figures import KernelFigures
from app import lrn_sections, parts_found, queries

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[..., AppTest]

pytestmark = pytest.mark.xdist_group("runs_page")

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
COMMAND = "python -m alexnet ablate DATA --preset quick --seeds 2 --only baseline,no-lrn"
FIGURES = KernelFigures(96, 60, 0.5, (0.2, 0.5))


def made(*names: str, command: str = COMMAND, kernels: KernelFigures | None = FIGURES) -> Ablation:
    """Two seeds of each variant; each is worse than the one before it, by 2 points at one seed and 4 at the other."""
    variants = []
    for at, name in enumerate(names):
        runs = [
            Outcome(seed, (1.0, 2.0), (0.5, 0.8), (0.4, 0.8 - at * seed / 50), (0.9, 0.95), 2.0, 60.0, kernels)
            for seed in (1, 2)
        ]
        variants.append(Variant(name, "alexnet", 0.01, tuple(runs)))
    data = {"name": "*insects*", "train": 9000, "val": 100, "classes": 3}
    recipe = {"network": "alexnet-2012@131", "batch": 128, "mirror": True, "crop": None}
    return Ablation(data, recipe, command, ({"device": "cpu", "threads": 2},), 2, tuple(variants))


def write(path: Path, found: Ablation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found.as_json()))


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the folder of what is shipped."""
    monkeypatch.setattr(parts_found, "SHIPPED", tmp_path / "box")
    return tmp_path / "box"


@pytest.fixture
def show(tmp_path: Path, box: Path, monkeypatch: pytest.MonkeyPatch) -> Open:  # noqa: ARG001 - nothing else is shipped
    """Opens the page with these words in its address, where the folder of runs is `tmp_path` / runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queries.Verification, "start", lambda _: None)

    def opened(**address: str) -> AppTest:
        app = AppTest.from_file(str(MAIN), default_timeout=60)
        app.query_params.update(address)
        return healthy(app.switch_page("screens/parts.py").run())

    return opened


def healthy(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].stack_trace
    assert app.title[0].value == "What each part gives"
    return app


def words(app: AppTest) -> str:
    parts = (app.markdown, app.caption, app.info, app.error)
    return "\n".join(element.value for part in parts for element in part).replace("\\", "")


def headers(app: AppTest) -> list[str]:
    return [element.value for element in app.header]


def offered(app: AppTest) -> list[str]:
    return [option.content.replace("\\", "") for option in app.segmented_control(key="pick_ablation").proto.options]


def test_where_there_is_none_the_page_says_so_and_how_to_make_one(show: Open, tmp_path: Path) -> None:
    app = show()
    assert "This copy comes without results of an ablation." in words(app)
    assert f"There are none in {tmp_path / 'runs'} either." in words(app)
    assert [code.value for code in app.code] == ["python -m alexnet ablate DATA --preset quick --seeds 3"]
    assert headers(app) == ["Run it yourself"]
    assert not app.dataframe


def test_one_ablation_with_everything_known_of_it(show: Open, box: Path) -> None:
    write(box / "paper-scale.json", made("baseline", "no-lrn"))
    app = show()
    assert not [one for one in app.segmented_control if one.key == "pick_ablation"]  # one needs no choice
    assert "Trained on pixels from 0 to 255 and from the initial weights of the 2012 source" in words(app)
    assert "4 runs of 2 epochs: baseline, no-lrn; alexnet-2012@131, on *insects* (3 classes, 9,000" in words(app)
    # 2 and 4 points; Student's t of one degree of freedom is 12.706, and √2 of a deviation over √2 is 1.
    assert "without LRN: top-1 error +3.00 points (95 % interval −9.71 to +15.71, 2 seeds; it includes 0" in words(app)
    assert "Published: +1.40 (Krizhevsky et al. 2012, section 3.3)." in words(app)
    assert "always tower 2 is the more colourful one (2 of 2 seeds" in words(app)
    assert headers(app) == [
        "What each change costs", "How they learned", "Do the towers specialise?", "Every run", "Run it yourself",
    ]  # fmt: skip
    effects, results, speed, kernels, runs, recipe = (frame.value for frame in app.dataframe)
    assert list(effects["published_top1"]) == [1.4]
    assert list(results["seeds"]) == [2, 2]
    assert list(speed["epochs"]) == [2, 2]
    assert list(kernels["compact"]) == [60] * 4 + [80, 0]
    assert len(runs) == 4
    assert dict(zip(recipe["setting"], recipe["value"], strict=True)) == {
        "network": "alexnet-2012@131", "batch": "128", "mirror": "yes", "crop": "not set",
    }  # fmt: skip
    assert "device: cpu; threads: 2" in words(app)
    assert [code.value for code in app.code] == [COMMAND]
    assert "DATA is your pictures" in words(app)
    assert len(app.get("plotly_chart")) == 2
    assert len(app.get("popover")) == 6  # each table can be saved


def test_runs_without_films_have_no_section_of_towers(show: Open, box: Path) -> None:
    write(box / "paper-scale.json", made("baseline", "no-lrn", kernels=None))
    assert "Do the towers specialise?" not in headers(show())


def test_those_in_the_box_come_first_and_what_is_none_is_not_offered(show: Open, box: Path, tmp_path: Path) -> None:
    for name in ("other", "figure-1", "paper-scale"):
        write(box / f"{name}.json", made("baseline", "tanh", command=name))
    write(tmp_path / "runs" / "ablation" / "results.json", made("baseline", "no-overlap", command="mine"))
    bundle = tmp_path / "runs" / "bundle" / "results.json"
    bundle.parent.mkdir()
    bundle.write_text('{"format": 1, "top1": 0.8}')
    app = show(ablation="runs/ablation")
    assert offered(app) == ["LRN and overlapping pooling", "ReLU or tanh", "other", "runs/ablation"]
    assert [code.value for code in app.code] == ["mine"]
    assert f"Your own, in {tmp_path / 'runs' / 'ablation'}." in words(app)
    assert "pooling without overlap (z = 2, s = 2): top-1 error +3.00 points" in words(app)
    app = healthy(app.segmented_control(key="pick_ablation").set_value("figure-1").run())
    assert [code.value for code in app.code] == ["figure-1"]
    # Who is first at 25 %: the training error, as in the paper's figure.
    assert app.segmented_control(key="parts_error_figure-1").value == "training"
    assert "tanh takes 1 times as many epochs to 25 % training error (2 seeds); published: 6 times" in words(app)
    assert "asks which curve is first at the dashed line" in words(app)
    assert "The diamond is what the paper printed" not in words(app)  # of tanh it printed no error
    app.toggle(key="parts_late_figure-1").set_value(True)
    app.segmented_control(key="parts_error_figure-1").set_value("validation")
    assert "Lower is better" in words(healthy(app.run()))


def test_ones_own_stand_alone_where_nothing_is_shipped(show: Open, tmp_path: Path) -> None:
    write(tmp_path / "runs" / "results.json", made("baseline", "no-lrn", command=""))
    app = show()
    assert "This copy comes without results of an ablation. Those below are your own." in words(app)
    assert [code.value for code in app.code] == ["python -m alexnet ablate DATA --preset quick --seeds 3"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 1, "variants": [', "runs/ablation/results.json holds no results of an ablation: Expecting value"),
        ('{"format": 9, "variants": []}', "its format is 9, and this version reads 1"),
    ],
)
def test_damaged_results_are_named_and_the_others_can_be_seen(
    content: str, message: str, show: Open, box: Path, tmp_path: Path
) -> None:
    write(box / "paper-scale.json", made("baseline", "no-lrn"))
    damaged = tmp_path / "runs" / "ablation" / "results.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text(content)
    app = show(ablation="runs/ablation")
    (error,) = app.error
    assert message in error.value.replace("\\", "")
    assert "`python -m alexnet ablate --out runs/ablation --table` writes it again, from its runs." in words(app)
    assert not app.dataframe
    app = healthy(app.segmented_control(key="pick_ablation").set_value("paper-scale").run())
    assert not app.error
    assert app.dataframe


def test_the_published_verdicts_on_lrn_lead_to_this_page(monkeypatch: pytest.MonkeyPatch) -> None:
    linked: list[str] = []
    monkeypatch.setattr(lrn_sections.st, "page_link", lambda page, **_: linked.append(page))
    monkeypatch.setattr(lrn_sections.st, "markdown", lambda _: None)
    monkeypatch.setattr(lrn_sections.exports, "show_table", lambda *_, **__: None)
    lrn_sections.published(None)
    assert linked == ["screens/parts.py"]
    assert (MAIN.parent / linked[0]).is_file()
