from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import queries

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"


class _Answered:
    """Stands for a finished `verify` process, so that pages are tested without waiting for torch."""

    def __init__(self, verdict: object, returncode: int = 0, complaint: str = "") -> None:
        self.returncode = returncode
        self._out, self._err = json.dumps(verdict), complaint

    def poll(self) -> int:
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        return self._out, self._err


def _verdict(*, mismatches: list[dict[str, object]]) -> list[dict[str, object]]:
    witness = {"witness": "fvcore", "quantity": "flops", "compared": 24, "agree": 24, "ours": 7, "theirs": 724_406_816}
    return [
        {
            "network": "alexnet-2012",
            "agrees": not mismatches,
            "witnesses": [witness],
            "mismatches": mismatches,
            "skipped": [],
        }
    ]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the witnesses answer; a test may change it before it runs a page."""
    answer: dict[str, object] = {"verdict": _verdict(mismatches=[]), "complaint": ""}
    monkeypatch.setattr(
        queries.subprocess, "Popen", lambda *_, **__: _Answered(answer["verdict"], complaint=str(answer["complaint"]))
    )
    queries._verification.clear()
    yield answer
    queries._verification.clear()


@pytest.fixture
def app(answers: dict[str, object]) -> AppTest:  # noqa: ARG001 - the page must find its witnesses
    return AppTest.from_file(str(MAIN), default_timeout=60).switch_page("screens/architecture.py")


def _texts(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.subheader))


def test_first_page_shows_the_exact_totals_of_the_paper(app: AppTest) -> None:
    app.run()
    assert not app.exception
    assert app.title[0].value == "Architecture"
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["Parameters"] == "60,965,224"
    assert shown["MACs, forward"] == "724,406,816"
    assert shown["Bytes between GPUs"] == "234,496"
    assert "All 24 figures agree" in app.success[0].value


def test_first_stage_is_explained_with_the_numbers_put_in(app: AppTest) -> None:
    app.run()
    assert app.subheader[0].value.startswith("conv1")
    assert "(11·11·3 + 1)·96 = 34,944" in _texts(app)
    assert "55·55·96 · 11·11·3 = 105,415,200" in _texts(app)


def test_stage_in_the_address_is_the_one_shown(app: AppTest) -> None:
    app.query_params["stage"] = "conv2"
    app.run()
    assert app.subheader[0].value.startswith("conv2")
    assert "(5·5·96/2 + 1)·256 = 307,456" in _texts(app)


def test_network_choice_changes_every_figure(app: AppTest) -> None:
    app.run()
    app.selectbox(key="network").set_value("vgg-e").run()
    assert not app.exception
    assert app.metric[0].value == "143,667,240"


def test_sizes_change_the_table(app: AppTest) -> None:
    app.run()
    app.text_input(key="classes").set_value("10").run()
    assert app.metric[0].value == f"{60_965_224 - 4097 * 990:,}"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("input", "10", "conv1 received 3×10×10"),
        ("input", "0", "from 1 to 1,024 pixels"),
        ("input", "-5", "from 1 to 1,024 pixels"),
        ("input", "1000000", "from 1 to 1,024 pixels"),
        ("input", "4x227x227", "takes 3 channels"),
        ("input", "abc", "a number of pixels like 224"),
        ("classes", "none", "must be a whole number"),
        ("classes", "0", "from 1 to 100,000"),
        ("classes", "99999999999999999999", "from 1 to 100,000"),
        ("classes", "1,0", "must be a whole number"),
        ("hidden", "4095", "do not split over the 2 towers"),
    ],
)
def test_bad_size_is_one_clear_notice_and_loses_nothing(app: AppTest, key: str, value: str, says: str) -> None:
    app.run()
    app.text_input(key=key).set_value(value).run()
    assert not app.exception
    assert len(app.error) == 1
    assert says in app.error[0].value
    assert app.metric[0].value == "60,965,224"  # the network's own sizes meanwhile
    next(button for button in app.button if button.label == "Use the network's own sizes").click().run()
    assert not app.error


def test_224_is_legal_and_the_page_says_54_not_55(app: AppTest) -> None:
    app.query_params["input"] = "224"
    app.run()
    assert not app.error
    assert "224 gives 54, not 55" in _texts(app)


def test_malformed_address_gives_notices_and_defaults(app: AppTest) -> None:
    app.query_params.update({"network": "alexnet2012", "convention": "fvcor", "batch": "many", "stage": "conv9"})
    app.run()
    assert not app.exception
    notices = " ".join(warning.value for warning in app.warning)
    assert "did you mean alexnet-2012?" in notices
    assert "did you mean fvcore?" in notices
    assert "batch must be a whole number" in notices
    assert "no stage named 'conv9'" in notices
    assert app.metric[0].value == "60,965,224"


def test_alias_in_the_address_is_understood(app: AppTest) -> None:
    app.query_params["network"] = "vgg16"
    app.run()
    assert not app.warning
    assert app.metric[0].value == "138,357,544"


def test_convention_switch_prints_that_tools_total(app: AppTest) -> None:
    app.run()
    app.selectbox(key="convention").set_value("torchinfo").run()
    assert "725,066,088" in _texts(app)


def test_mismatch_is_an_error_naming_the_stage(app: AppTest, answers: dict[str, object]) -> None:
    wrong = {"witness": "fvcore", "quantity": "flops", "stage": "conv2", "ours": 1, "theirs": 2}
    answers["verdict"] = _verdict(mismatches=[wrong])
    app.run()
    assert not app.success
    assert "conv2" in app.error[0].value
    assert "fvcore counts 2 flops, we count 1" in app.error[0].value


def test_witnesses_that_cannot_be_asked_are_reported_with_a_way_out(app: AppTest, answers: dict[str, object]) -> None:
    answers["verdict"], answers["complaint"] = [], "ModuleNotFoundError: No module named 'fvcore'"
    app.run()
    assert "No module named 'fvcore'" in app.warning[0].value
    assert any(button.label == "Ask again" for button in app.button)


def test_compare_shows_two_towers_against_one(app: AppTest) -> None:
    app.run()
    app.switch_page("screens/compare.py").run()
    assert not app.exception
    assert "56.7 % more MACs" in _texts(app)


def test_compare_presets_choose_their_networks(app: AppTest) -> None:
    app.run()
    app.switch_page("screens/compare.py").run()
    app.button(key="preset_VGG A to E").click().run()
    assert app.multiselect(key="nets").value == ["vgg-a", "vgg-a-lrn", "vgg-b", "vgg-c", "vgg-d", "vgg-e"]
    layers = app.dataframe[-1].value
    assert layers.loc[layers["name"] == "conv3_3", "vgg-c"].item() == "conv1-256"


def test_compare_reports_what_it_cannot_show_and_shows_the_rest(app: AppTest) -> None:
    app.query_params["nets"] = ["alexnet-2012", "alexnet-2012@10", "nonsense"]
    app.run()
    app.switch_page("screens/compare.py").run()
    app.session_state["nets"] = ["alexnet-2012", "alexnet-2012@10", "nonsense"]
    app.run()
    assert not app.exception
    wrong, unknown = (error.value for error in app.error)
    assert wrong.startswith("alexnet-2012@10")
    assert "conv1 received 3×10×10" in wrong
    assert unknown.startswith("nonsense")
    assert list(app.dataframe[0].value.columns) == ["quantity", "alexnet-2012"]


def test_small_kernels_save_what_the_formula_says(app: AppTest) -> None:
    app.run()
    app.switch_page("screens/compare.py").run()
    app.session_state["view"] = "Kernels"
    app.run()
    weights = [frame.value["weights"].tolist() for frame in app.dataframe]
    assert weights == [[25 * 256**2, 2 * 9 * 256**2], [49 * 256**2, 3 * 9 * 256**2]]
    assert [frame.value["sees"].tolist() for frame in app.dataframe] == [["5×5", "5×5"], ["7×7", "7×7"]]


def test_every_tools_figure_is_on_the_page_about_disagreement(app: AppTest) -> None:
    app.run()
    app.switch_page("screens/disagree.py").run()
    assert not app.exception
    figures = dict(zip(app.dataframe[0].value["convention"], app.dataframe[0].value["figure"], strict=True))
    assert figures == {
        "ours": 724_406_816,
        "fvcore": 724_406_816,
        "torchinfo": 725_066_088,
        "ptflops": 729_346_320,
        "ptflops-aten": 725_066_088,
        "torch": 1_448_813_632,
        "netscope": 726_791_936,
    }


def test_chosen_tools_differences_add_up_to_its_total(app: AppTest) -> None:
    app.run()
    app.switch_page("screens/disagree.py").run()
    app.session_state["tool"] = "ptflops"
    app.run()
    formulas = app.dataframe[1].value["formula"]
    added = sum(int(text.rpartition("= ")[2].replace(",", "")) for text in formulas)
    assert added == 729_346_320 - 724_406_816


def test_batch_in_the_address_counts_for_every_figure(app: AppTest) -> None:
    app.query_params["batch"] = "7"
    app.run()
    assert "Training on **7** images" in _texts(app)


def test_what_a_reader_typed_is_shown_as_it_stands(app: AppTest) -> None:
    app.run()
    app.text_input(key="input").set_value("[a](http://example.org)**b**").run()
    assert "\\[a\\](http\\://example.org)\\*\\*b\\*\\*" in app.error[0].value


def test_the_same_network_twice_is_shown_once(app: AppTest) -> None:
    app.run()
    app.switch_page("screens/compare.py").run()
    app.session_state["nets"] = ["alexnet-2012", "ALEXNET-2012", "alexnet-2012@227"]
    app.run()
    assert list(app.dataframe[0].value.columns) == ["quantity", "alexnet-2012"]
    assert sum("is shown once" in caption.value for caption in app.caption) == 2


@pytest.mark.parametrize("page", ["screens/architecture.py", "screens/compare.py", "screens/disagree.py"])
def test_every_table_has_its_downloads(app: AppTest, page: str) -> None:
    app.run()
    app.switch_page(page).run()
    labels = [button.label for button in app.get("download_button")]
    # On the first page also the detail, a table in text, and the table behind the cost charts.
    frames = len(app.dataframe) + (2 if page == "screens/architecture.py" else 0)
    assert frames > 0
    for label in ("CSV", "JSON", "Markdown", "LaTeX (booktabs)"):
        assert labels.count(label) == frames
