"""The LRN laboratory, through Streamlit's own test driver."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch.nn import functional

from alexnet.data.images import decode
from alexnet.foreign import open_checkpoint
from alexnet.inference import Viewer, looked_at
from app import queries

if TYPE_CHECKING:
    from collections.abc import Callable

    Open = Callable[..., AppTest]

# The same process as tests/ui/test_looking.py: what is opened and computed once stays.
pytestmark = pytest.mark.xdist_group("looking")

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
SECTIONS = ("One map", "All maps", "Suppressed", "Gain", "Orders", "Towers", "Limit cases", "Cost", "Published")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens the page with these words in its address."""
    monkeypatch.setattr(queries.Verification, "start", lambda _: None)
    monkeypatch.setattr(queries, "devices", lambda: ["cpu"])

    def opened(**address: str) -> AppTest:
        app = AppTest.from_file(str(MAIN), default_timeout=120)
        app.query_params.update(address)
        return healthy(app.switch_page("screens/lrn.py").run())

    return opened


def healthy(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].stack_trace
    return app


def words(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.subheader, *app.warning))


def rectified() -> torch.Tensor:
    """relu1 of the weights in the box on the cat, by a walk of this test's own."""
    checkpoint = open_checkpoint(queries.BUILT_IN)
    _, inputs = looked_at(checkpoint.preprocessing, decode(queries.ROOT / "app" / "pictures" / "cat.jpg"))
    with torch.no_grad():
        return next(
            values for stage, values in Viewer(checkpoint, torch.device("cpu")).walk(inputs) if stage.name == "relu1"
        )


def test_it_opens_on_the_weights_in_the_box_with_their_own_settings(lab: Open) -> None:
    app = lab()
    assert app.title[0].value == "LRN laboratory"
    side = (open_checkpoint(queries.BUILT_IN).network.input_shape[1] - 11) // 4 + 1
    assert f"**norm1**, 96×{side}×{side}, from the output of relu1. Its own settings: n 5, α 1e-4 summed" in words(app)
    assert "inside each tower" in words(app)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_shows_something(lab: Open, section: str) -> None:
    app = lab(section=section)
    assert not app.error
    assert app.get("plotly_chart") or app.dataframe or app.table or "|" in words(app) or app.get("bidi_component")


def test_a_setting_in_the_address_is_what_is_computed(lab: Open) -> None:
    """α is large, so that much is suppressed; torch's own LRN divides it by n, as the page is told to."""
    app = lab(lrn_n="3", lrn_k="1", lrn_alpha="0.5", lrn_beta="0.5", lrn_sum="divided by n", lrn_reach="across all")
    before = rectified()
    after = functional.local_response_norm(before, 3, alpha=0.5, beta=0.5, k=1.0)
    suppressed = 1 - float(after.abs().sum() / before.abs().sum())  # k = 1: at rest the gain is 1
    assert suppressed > 0.1
    assert f"**{100 * suppressed:.1f} %** of the activity is suppressed" in words(app)


def test_a_slider_moves_the_result_and_the_address(lab: Open) -> None:
    app = lab()
    before = words(app)
    healthy(app.select_slider(key="pick_lrn_alpha").set_value(0.1).run())
    assert words(app) != before
    said = app.query_params["lrn_alpha"]
    assert float(said[0] if isinstance(said, list) else said) == 0.1


def test_a_preset_sets_everything(lab: Open) -> None:
    app = lab(lrn_n="9", lrn_alpha="1")
    caffe = next(button for button in app.button if button.label == "Caffe")
    healthy(caffe.click().run())
    assert (app.select_slider(key="pick_lrn_n").value, app.select_slider(key="pick_lrn_k").value) == (5, 1.0)
    assert "\\tfrac{10^{-4}}{5}" in words(app)
    assert "across all channels" in words(app)


@pytest.mark.parametrize(
    "address",
    [
        {"lrn_n": "4"},
        {"lrn_n": "abc"},
        {"lrn_k": "-1"},
        {"lrn_alpha": "1e999"},
        {"lrn_beta": "nan"},
        {"lrn_sum": "sometimes"},
        {"lrn_reach": "<script>"},
        {"lrn_stage": "norm9"},
        {"lrn_map": "96"},
        {"lrn_row": "99999999999999"},
        {"section": "nowhere"},
    ],
)
def test_nonsense_in_the_address_falls_back(lab: Open, address: dict[str, str]) -> None:
    app = lab(**address)
    assert "Its own settings" in words(app)
    assert not app.error


@pytest.mark.parametrize("network", ["alexnet-owt", "alexnet-half"])
def test_a_network_without_lrn_is_looked_at_as_if_it_had_one(lab: Open, network: str) -> None:
    app = lab(weights=f"random:{network}:0")
    assert "This network has no LRN" in words(app)
    assert not app.error


def test_the_profile_is_the_picked_pixel(lab: Open) -> None:
    app = lab(lrn_map="40", lrn_row="10", lrn_column="12")
    assert "Every channel at row 10, column 12" in words(app)
    own = float(rectified()[0, 40, 10, 12])
    table = app.dataframe[0].value
    (row,) = [index for index, name in enumerate(table["term"]) if "40" in name]
    assert np.isclose(float(table["value"].iloc[row]), own, rtol=1e-3)
