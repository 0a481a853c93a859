"""The first page: nothing chosen, every figure on it computed again here, by another route."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest
from torch.nn import functional

from alexnet.data.imagenet import readable
from alexnet.foreign import open_checkpoint
from alexnet.inference import Viewer, looked_at
from app import first_box, queries

if TYPE_CHECKING:
    from collections.abc import Iterator

# With the pages that look inside, in one process: what is opened and computed once stays, as it does in the server.
pytestmark = pytest.mark.xdist_group("looking")

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
BUILT_IN = open_checkpoint(queries.BUILT_IN)
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queries.Verification, "start", lambda _: None)  # the witnesses are a process of their own
        patch.setattr(queries, "devices", lambda: ["cpu"])
        yield


@pytest.fixture
def app() -> AppTest:
    """The app as its address without anything opens it."""
    return AppTest.from_file(str(MAIN), default_timeout=120)


@pytest.fixture(scope="module")
def opened(alone: None) -> AppTest:  # noqa: ARG001
    """The first page, for tests that press nothing."""
    return healthy(AppTest.from_file(str(MAIN), default_timeout=120).run())


def healthy(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].stack_trace
    return app


def press(app: AppTest, label: str) -> None:
    """The button whose label begins like this."""
    healthy(next(button for button in app.button if button.label.startswith(label)).click().run())


def words(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption))


def stages_of(sample: str) -> dict[str, torch.Tensor]:
    """What the network in the box makes of a sample, without the pages."""
    _, inputs = looked_at(BUILT_IN.preprocessing, queries.sample(sample))
    return {stage.name: values[0] for stage, values in Viewer(BUILT_IN, CPU).walk(inputs)}


def compact_and_rough(weights: np.ndarray) -> tuple[int, float]:
    """Kernels with more than 80 % of their power within 4 of 32 bins of the peak or its mirror; median roughness."""
    count, rough = 0, []
    rows, columns = np.mgrid[:32, :32]
    for kernel in weights.astype(np.float64):
        power = (np.abs(np.fft.fft2(kernel, (32, 32))) ** 2).sum(0)
        row, column = np.unravel_index(power.argmax(), power.shape)
        one, mirror = (
            np.hypot((rows - sign * row + 16) % 32 - 16, (columns - sign * column + 16) % 32 - 16) for sign in (1, -1)
        )
        count += power[np.minimum(one, mirror) <= 4].sum() > 0.8 * power.sum()
        steps = sum((np.diff(kernel, axis=axis) ** 2).sum() for axis in (1, 2))
        rough.append(steps / (kernel**2).sum())
    return count, float(np.median(rough))


def test_it_opens_with_five_stops_and_nothing_wrong(opened: AppTest) -> None:
    assert opened.title[0].value == "First look"
    assert [header.value[:3] for header in opened.header] == [f"{number} ·" for number in range(1, 6)]
    assert [header.anchor for header in opened.header] == [f"stop-{number}" for number in range(1, 6)]
    assert not opened.error
    assert not opened.warning
    assert (
        sum(button.label.startswith("Look closer") for button in opened.button) == 6
    )  # stop 4 has one for what trainings say


def test_kernels_are_measured_as_they_are(opened: AppTest) -> None:
    compact, rough = compact_and_rough(BUILT_IN.weights["conv1.weight"].numpy())
    assert compact > 40
    assert f"| this network | {compact} of 96 | {round(rough, 3):.4g} |" in words(opened)
    assert "| BVLC AlexNet | 80 of 96 |" in words(opened)
    assert f"{40 / 11:.4g}" in words(opened)  # noise: 4·(n − 1)/n


@pytest.mark.parametrize("sample", ["parachute", "cat"])
def test_what_it_says_of_lrn_and_the_answer_is_what_torch_computes(app: AppTest, sample: str) -> None:
    app.query_params["sample"] = sample
    healthy(app.run())
    found = stages_of(sample)
    whole, left = 0.0, 0.0
    for tower in found["relu1"].chunk(2):
        after = functional.local_response_norm(tower[None], 5, alpha=5e-4, beta=0.75, k=2.0)  # torch divides α by 5
        whole, left = whole + float(tower.double().sum()) * 2**-0.75, left + float(after.double().sum())
    share = 1 - left / whole
    assert 0.0001 < share < 0.5
    assert f"take away **{100 * share:.{2 if share < 0.01 else 1}f} %** of the activity" in words(app)
    chances = found["fc8"].softmax(0)
    best = readable(BUILT_IN.classes[int(chances.argmax())])
    assert f"**{best}** ({100 * float(chances.max()):.0f} %)" in words(app)


def test_every_class_is_named(opened: AppTest) -> None:
    for name in BUILT_IN.classes:
        assert readable(name) in words(opened)


def test_another_picture_changes_the_answer_and_either_choice_says_so(app: AppTest) -> None:
    healthy(app.run())
    assert "The parachute is one of them" in words(app)
    healthy(app.segmented_control(key="pick_sample").set_value("coffee").run())
    assert "The coffee is none of them" in words(app)
    assert app.segmented_control(key="first_again").value == "coffee"
    healthy(app.segmented_control(key="first_again").set_value("golf-ball").run())
    assert app.segmented_control(key="pick_sample").value == "golf-ball"
    assert "The golf ball is one of them" in words(app)


def test_training_one_oneself_begins_with_the_recipe_that_takes_minutes(app: AppTest) -> None:
    healthy(app.run())
    press(app, "Train one yourself")
    assert app.title[0].value == "Start a training"
    assert {name: app.query_params[name] for name in ("data", "preset")} == {
        "data": "built-in",
        "preset": "minutes",
    }


def test_the_training_in_the_box_is_looked_at_like_any_run(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    healthy(app.run())
    press(app, "Look closer: its film")
    assert app.title[0].value == "Photographs (in the box)"
    assert app.segmented_control(key="pick_view_of_run").value == "Kernels"
    for name in ("imagenette-in-the-box", "generated-in-the-box"):
        assert (tmp_path / "runs" / name / "config.json").is_file()


def test_where_runs_cannot_be_written_the_first_page_says_so(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("no folder")
    healthy(app.run())
    press(app, "Look closer: its film")
    assert app.title[0].value == "First look"
    assert "cannot be put into" in app.error[0].value


def test_looking_closer_shows_the_network_in_the_box_whatever_was_looked_at_before(app: AppTest) -> None:
    app.query_params["weights"] = "random:alexnet-half:0"
    healthy(app.switch_page("screens/kernels.py").run())
    assert "alexnet-half" in words(app)
    app.query_params.clear()
    healthy(app.switch_page("screens/first.py").run())
    healthy(app.segmented_control(key="pick_sample").set_value("golf-ball").run())
    press(app, "Look closer: every map")
    assert app.title[0].value == "Activations"
    assert BUILT_IN.network.name in words(app)
    assert "golf-ball" in words(app).replace("\\", "")


def test_the_film_is_the_whole_training() -> None:
    training = first_box.training(BUILT_IN.network)
    assert len(training.steps) >= 60
    assert training.steps[0] == 0
    assert training.labels[0] == "step 0 · untrained"
    final = training.curves.val.top1[-1]
    assert training.labels[training.steps[-1]].endswith(f"· {100 * final:.0f} % right")
    # The last frame is the network in the box, but for the rounding of its weights.
    (reel,) = training.reels[-1:]
    last = np.frombuffer(reel.content, np.uint8).reshape(len(reel.steps), 96, 11, 11, 3)[-1].astype(int)
    weights = BUILT_IN.weights["conv1.weight"].numpy()
    drawn = 128 + 127 * weights / np.abs(weights).max(axis=(1, 2, 3), keepdims=True)
    assert np.abs(last - drawn.transpose(0, 2, 3, 1)).mean() < 8


def test_an_old_link_to_the_architecture_still_leads_there(app: AppTest) -> None:
    app.query_params["network"] = "caffenet"
    app.query_params["stage"] = "norm2"
    healthy(app.run())
    assert app.title[0].value == "Architecture"
    assert app.subheader[0].value.startswith("norm2")


def test_a_network_that_cannot_be_read_is_a_sentence(
    app: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "weights.safetensors"
    broken.write_bytes(b"nothing of the kind")
    monkeypatch.setattr(queries, "BUILT_IN", broken)
    healthy(app.run())
    assert len(app.error) == 1
    assert "cannot be read" in app.error[0].value
