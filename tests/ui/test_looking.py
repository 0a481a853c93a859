from __future__ import annotations

import dataclasses
import io
import os
import pickle
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from streamlit.testing.v1 import AppTest

from alexnet import checkpoints
from alexnet.bundled import GENERATED
from alexnet.foreign import open_checkpoint
from alexnet.inference import Viewer, looked_at
from alexnet.runs import RunDirectory
from alexnet.spec import LRN, times
from alexnet.zoo import network_from
from app import queries
from app.attributions import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from alexnet.checkpoints import Checkpoint
    from alexnet.spec import Network

    Open = Callable[..., AppTest]

# One process for all of them: what is opened and computed once stays, as it does in the server.
pytestmark = pytest.mark.xdist_group("looking")

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
BUILT_IN = open_checkpoint(queries.BUILT_IN)
STAGES = [stage.name for stage in BUILT_IN.network.stages()]
NAMES = (
    *("tench", "English springer", "cassette player", "chain saw", "church"),
    *("French horn", "garbage truck", "gas pump", "golf ball", "parachute"),
)
"""Imagenette's classes in its folders' order."""
SMALL = network_from("alexnet-2012@67").adapted(classes=3, hidden=8)
CPU = torch.device("cpu")


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens a page with these words in its address."""
    monkeypatch.setattr(queries.Verification, "start", lambda _: None)  # the witnesses are a process of their own
    monkeypatch.setattr(queries, "devices", lambda: ["cpu"])

    def opened(page: str, **address: str) -> AppTest:
        app = AppTest.from_file(str(MAIN), default_timeout=120)
        app.query_params.update(address)
        return healthy(app.switch_page(f"screens/{page}.py").run())

    return opened


def visit(app: AppTest, page: str) -> AppTest:
    """Follows a link to another page, which takes nothing of this one's address along."""
    app.query_params.clear()
    return healthy(app.switch_page(f"screens/{page}.py").run())


def healthy(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].stack_trace
    return app


def words(app: AppTest) -> str:
    return "\n".join(element.value for element in (*app.markdown, *app.caption, *app.subheader, *app.info))


def choose(app: AppTest, key: str, value: Any) -> AppTest:
    return healthy(app.selectbox(key=key).set_value(value).run())


def address(app: AppTest) -> dict[str, str]:
    """The page's address; a widget's word may stand in a list."""
    return {name: value[0] if isinstance(value, list) else value for name, value in app.query_params.items()}


def refused(app: AppTest, says: str) -> None:
    """One sentence, no traceback, and a way out: other weights are looked at again."""
    healthy(app)
    assert len(app.error) == 1
    assert says in app.error[0].value.replace("\\", "")
    assert "Choose other weights" in words(app)
    choose(app, "weights_from", "Built-in")
    assert not app.error
    assert app.title[0].value in {"Kernels", "Activations"}


@cache
def untrained(network: Network = SMALL) -> Checkpoint:
    return dataclasses.replace(checkpoints.untrained(network), classes=("ape", "bee", "cat"))


def saved(path: Path, checkpoint: Checkpoint, **weights: Any) -> str:
    """Saves it and says so as an address does; `weights` change some by their stage."""
    changed = {
        name: change(tensor) if (change := weights.get(name.partition(".")[0])) is not None else tensor
        for name, tensor in checkpoint.weights.items()
    }
    checkpoints.save(path, dataclasses.replace(checkpoint, weights=changed))
    return f"file:{path}"


@cache
def cat() -> dict[str, np.ndarray]:
    """What each stage of the built-in network makes of the cat, without the pages."""
    _, inputs = looked_at(BUILT_IN.preprocessing, queries.sample("cat"))
    return {stage.name: values[0].numpy() for stage, values in Viewer(BUILT_IN, CPU).walk(inputs)}


# --- kernels ---------------------------------------------------------------------------------------------------------


def test_kernels_open_with_the_built_in_weights(look: Open) -> None:
    app = look("kernels")
    assert not app.error
    assert "**96 kernels of 11×11** on red, green and blue" in words(app)
    network = BUILT_IN.network
    assert f"**{network.name}**, {times(network.input_shape)}" in words(app)
    assert address(app)["weights"] == "built-in"
    tables = [frame.value for frame in app.dataframe]
    assert len(tables[-1]) == 96
    (compared,) = (table for table in tables if "weights" in table.columns)
    assert compared["weights"].tolist() == ["built-in", "BVLC AlexNet", "random, expected"]
    assert compared["compact"].tolist()[1:] == [80, 0]


def test_the_kernel_in_the_address_is_shown_with_its_numbers(look: Open) -> None:
    app = look("kernels", kernel="66")
    assert app.subheader[0].value == "conv1 · kernel 66 · GPU 2"
    weights = BUILT_IN.weights["conv1.weight"][66].double().numpy()
    grey = (weights.sum(0) ** 2).sum() / 3
    assert f"norm **{np.sqrt((weights**2).sum()):.4g}**" in words(app)
    assert f"colourfulness **{1 - grey / (weights**2).sum():.4g}**" in words(app)
    bias = f"{float(BUILT_IN.weights['conv1.bias'][66]):.4g}".replace("-", "−")
    assert f"bias **{bias}**" in words(app)


def test_deeper_layers_show_their_kernels_map_by_map(look: Open) -> None:
    app = look("kernels", layer="conv2", kernel="200")
    assert "**256 kernels of 5×5** on 48 maps each" in words(app)
    assert app.subheader[0].value == "conv2 · kernel 200 · GPU 2"
    weights = BUILT_IN.weights["conv2.weight"][200]
    assert f"white +{float(weights.abs().max()):.3f}" in words(app)
    # A layer that looks at maps cannot be shown in colour, and the choice is not offered.
    assert not [box for box in app.selectbox if box.key == "pick_channels"]
    for layer, maps in (("conv3", 384), ("conv4", 384), ("conv5", 256)):
        assert f"**{maps} kernels of 3×3**" in words(look("kernels", layer=layer))


@pytest.mark.parametrize(
    ("key", "count"), [("pick_sort", 7), ("pick_channels", 4), ("pick_scaling", 2)]
)  # fmt: skip
def test_every_way_to_show_kernels(look: Open, key: str, count: int) -> None:
    app = look("kernels")
    options = app.selectbox(key=key).options
    assert len(options) == count
    for option in options:
        choose(app, key, option)
        assert address(app)[key.removeprefix("pick_")] == option


def pictures(folder: Path, count: int) -> Path:
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (80, 90, 3), dtype=np.uint8)
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def searched(app: AppTest, data: str) -> AppTest:
    """Has the pictures looked through, to the end."""
    app.text_input(key="search_data").set_value(data).run()
    next(button for button in app.button if button.label == "Look through them").click().run()
    deadline = time.monotonic() + 60
    while app.session_state["search"].running:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return healthy(app.run())


def test_the_patches_that_excite_a_kernel_most(look: Open, tmp_path: Path) -> None:
    app = searched(look("kernels", layer="conv2", kernel="3"), str(pictures(tmp_path / "few", 3)))
    assert not app.error
    assert "strongest place in each of the 3 pictures that excite it most, of 3" in words(app)
    # conv2 sees 11 + 4·(3 − 1) + 8·(5 − 1) pixels.
    assert "the 51×51 pixels it sees" in words(app)


@pytest.mark.parametrize("data", ["", "nowhere", "empty"])
def test_pictures_that_are_not_there_are_a_sentence(look: Open, tmp_path: Path, data: str) -> None:
    (tmp_path / "empty").mkdir()
    app = look("kernels")
    if not data:
        app.text_input(key="search_data").set_value(" ").run()
        assert next(button for button in app.button if button.label == "Look through them").disabled
        return
    app = searched(app, str(tmp_path / data))
    assert data in app.error[0].value


# --- activations -----------------------------------------------------------------------------------------------------


def test_activations_open_with_the_built_in_weights_and_the_cat(look: Open) -> None:
    app = look("activations")
    assert not app.error
    name, shape = BUILT_IN.network.name, times(BUILT_IN.network.input_shape)
    assert f"**cat** through **{name}**: 24 stages, from {shape} to 10 at prob" in words(app)
    assert address(app)["picture"] == "cat"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_can_be_looked_at(look: Open, stage: str) -> None:
    values = cat()[stage]
    if values.ndim == 3:
        place = tuple(size - 1 for size in values.shape)
        app = look("activations", stage_seen=stage, map=f"{place[0]}", row=f"{place[1]}", column=f"{place[2]}")
        title = f"**{stage} · map {place[0]}** at row {place[1]}, column {place[2]}"
    else:
        place = (len(values) - 1,)
        app = look("activations", stage_seen=stage, value=f"{place[0]}")
        name = " (parachute)" * (stage in {"fc8", "prob"})
        title = f"**{stage} · {len(values):,} values** at value {place[0]}{name}"
    shown = next(text.value for text in app.markdown if text.value.startswith(title))
    found = float(shown.removeprefix(f"{title}: **").partition("**")[0])
    assert found == pytest.approx(float(values[place]), rel=2e-4, abs=1e-6)
    assert app.code  # the arithmetic below
    difference = words(app).partition("the difference is ")[2].partition(".  ")[0]
    assert float(difference.split(". ")[0]) <= 1e-4 * max(1, abs(found))


def test_the_strongest_value_is_shown_until_one_is_picked(look: Open) -> None:
    app = look("activations", stage_seen="norm2")
    values = cat()["norm2"]
    channel, row, column = np.unravel_index(int(values.argmax()), values.shape)
    assert f"**norm2 · map {channel}** at row {row}, column {column}" in words(app)
    assert not {"map", "row", "column"} & set(address(app))


def test_the_stages_follow_one_another_without_a_mistake(look: Open) -> None:
    """From maps to vectors and back, with a place that not every stage has."""
    app = look("activations", map="95", row="30", column="30")
    for stage in ("relu1", "pool5", "flatten", "prob", "conv5", "conv1"):
        choose(app, "pick_stage_seen", stage)
        assert f"**{stage} · " in words(app)


@pytest.mark.parametrize("below", ["One value", "What it answers to", "Every stage"])
def test_everything_below_the_maps(look: Open, below: str) -> None:
    app = look("activations", below=below)
    assert address(app)["below"] == below
    says = {"One value": "**", "What it answers to": "Grad-CAM", "Every stage": "Silent maps"}
    assert says[below] in words(app)
    if below == "Every stage":
        table = app.dataframe[-1].value
        assert list(table["stage"]) == STAGES
        assert table["max"].tolist() == pytest.approx([float(values.max()) for values in cat().values()], rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_says_what_it_explains(look: Open, method: str) -> None:
    app = look("activations", below="What it answers to", method=method, stage_seen="pool5", map="7")
    assert not app.error
    best = int(cat()["fc8"].argmax())
    said = next(text.value for text in app.markdown if text.value.startswith(f"**{method}** for"))
    assert f"the score of {NAMES[best]}" in said.replace("\\", "")
    value = float(said.partition("which is ")[2].partition(":")[0])
    assert value == pytest.approx(float(cat()["fc8"][best]), rel=2e-4)
    targets = app.selectbox(key="pick_target").options
    assert len(targets) == 5 + 2
    # A whole map of pool5 lies behind the last convolution: every method can explain it, or says why not.
    choose(app, "pick_target", "map 7 of pool5")
    assert "the mean of map 7 of pool5" in words(app) or app.info


def test_a_softmax_is_followed_by_the_loss(look: Open) -> None:
    app = look("activations", stage_seen="prob", value="3")
    loss = -np.log(cat()["prob"][3])
    assert f"Cross-entropy**, were the picture's class {NAMES[3]}" in words(app)
    last = app.code[-1].value.rpartition("= ")[2].replace("−", "-")
    assert float(last) == pytest.approx(float(loss), rel=1e-4)


@pytest.mark.parametrize("picture", ["coffee", "rocket", "astronaut", "generated:12"])
def test_every_picture(look: Open, picture: str) -> None:
    app = look("activations", picture=picture)
    assert not app.error
    assert address(app)["picture"] == picture
    name = queries.generated(12)[0] if ":" in picture else picture
    assert f"**{name}** through" in words(app).replace("\\", "")


def test_a_picture_is_chosen_in_the_sidebar_of_every_page(look: Open) -> None:
    app = look("activations")
    choose(app, "picture_from", "Generated")
    healthy(app.number_input(key="picture_number").set_value(37).run())
    assert address(app)["picture"] == "generated:37"
    assert f"**{queries.generated(37)[0]}** through" in words(app).replace("\\", "")
    visit(app, "kernels")
    assert app.number_input(key="picture_number").value == 37


@pytest.mark.parametrize("source", ["Upload", "Camera"])
def test_no_picture_yet_is_a_sentence_and_kernels_need_none(look: Open, source: str) -> None:
    app = look("activations")
    choose(app, "picture_from", source)
    assert app.error[0].value.startswith("no picture yet")
    visit(app, "kernels")
    assert not app.error
    assert app.subheader[0].value == "conv1 · kernel 0 · GPU 1"


# --- weights of all kinds --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["kernels", "activations"])
def test_random_weights_are_what_a_training_starts_from(look: Open, page: str) -> None:
    app = look(page, weights="random:alexnet-half:7", kernel="5")
    assert not app.error
    assert "random weights" in words(app)
    assert "seed 7" in words(app)
    if page == "kernels":
        made = checkpoints.untrained(network_from("alexnet-half"), seed=7).weights["conv1.weight"][5]
        assert f"norm **{float(made.double().norm()):.4g}**" in words(app)
        # Other weights and back: what was chosen of random ones is not forgotten.
        choose(app, "weights_from", "Built-in")
        choose(app, "weights_from", "Random")
        assert address(app)["weights"] == "random:alexnet-half:7"
        healthy(app.number_input(key="random_seed").set_value(8).run())
        assert address(app)["weights"] == "random:alexnet-half:8"
        assert f"norm **{float(made.double().norm()):.4g}**" not in words(app)


@pytest.mark.parametrize("page", ["kernels", "activations"])
def test_both_networks_in_the_box_have_an_address(look: Open, page: str) -> None:
    app = look(page, weights="built-in:generated", kernel="5")
    assert not app.error
    assert app.selectbox(key="built_in").value == "Generated pictures"
    generated = open_checkpoint(GENERATED.weights)
    assert f"**{generated.network.name}**" in words(app)
    if page == "kernels":
        assert f"norm **{float(generated.weights['conv1.weight'][5].double().norm()):.4g}**" in words(app)
    choose(app, "built_in", "Photographs")
    assert address(app)["weights"] == "built-in"
    assert f"**{BUILT_IN.network.name}**" in words(app)
    # Random ones and back: which of the two it was is not forgotten.
    choose(app, "built_in", "Generated pictures")
    choose(app, "weights_from", "Random")
    choose(app, "weights_from", "Built-in")
    assert address(app)["weights"] == "built-in:generated"


@pytest.mark.parametrize(("page", "name"), [("kernels", "net.pt"), ("activations", "net.safetensors")])
def test_a_checkpoint_is_opened_by_its_path(look: Open, tmp_path: Path, page: str, name: str) -> None:
    saved(tmp_path / name, untrained())
    app = look(page)
    choose(app, "weights_from", "File")
    assert app.error[0].value.startswith("no file named yet")
    healthy(app.text_input(key="weights_path").set_value(f" {tmp_path / name} ").run())
    assert not app.error
    assert "alexnet-2012@67" in words(app)
    assert address(app)["weights"] == f"file:{tmp_path / name}"


def test_a_checkpoint_that_was_written_anew_is_opened_anew(look: Open, tmp_path: Path) -> None:
    reference = saved(tmp_path / "net.pt", untrained())
    app = look("kernels", weights=reference, kernel="0")
    before = app.markdown[2].value
    saved(tmp_path / "net.pt", untrained(), conv1=lambda tensor: 2 * tensor)
    os.utime(tmp_path / "net.pt", (2e9, 2e9))
    after = healthy(app.run()).markdown[2].value
    norms = [float(text.partition("norm **")[2].partition("**")[0]) for text in (before, after)]
    assert norms[1] == pytest.approx(2 * norms[0], rel=1e-2)


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.canary),))


def _text(folder: Path) -> str:
    (folder / "notes.txt").write_text("net 1: *good*\n")
    return f"file:{folder / 'notes.txt'}"


def _pickle(folder: Path) -> str:
    (folder / "net.pth").write_bytes(pickle.dumps({"state_dict": Hostile(folder / "canary")}))
    return f"file:{folder / 'net.pth'}"


def _torch_pickle(folder: Path) -> str:
    torch.save({"state_dict": Hostile(folder / "canary")}, folder / "net.pth")
    return f"file:{folder / 'net.pth'}"


def _nan(folder: Path) -> str:
    return saved(folder / "nan.pt", untrained(), conv3=lambda tensor: tensor * float("nan"))


def _cut_off(folder: Path) -> str:
    saved(folder / "net.pt", untrained())
    whole = (folder / "net.pt").read_bytes()
    (folder / "net.pt").write_bytes(whole[: len(whole) // 2])
    return f"file:{folder / 'net.pt'}"


def _misfit(folder: Path) -> str:
    torch.save({"conv1.weight": torch.zeros(7, 3, 5, 5)}, folder / "net.pth")
    return f"file:{folder / 'net.pth'}"


def _markup(folder: Path) -> str:
    return f"file:{folder / '[a](http:__b)**c**'}"


@pytest.mark.parametrize(
    ("page", "made", "says"),
    [
        ("kernels", lambda folder: f"file:{folder / 'nothing.pt'}", "there is nothing at"),
        ("activations", lambda folder: f"file:{folder}", "is a folder without weights"),  # it is empty
        ("kernels", lambda folder: _text(folder).rpartition("/")[0], "is a folder without weights"),
        ("activations", lambda _: "file:", "no file named yet"),
        ("kernels", lambda _: "file:a\0b", "there is nothing at"),
        ("activations", lambda _: f"file:{'x' * 5000}", "File name too long"),
        ("kernels", _text, "is text, not a checkpoint"),
        ("activations", _pickle, "is a bare pickle, which could run any code and is not opened"),
        ("kernels", _torch_pickle, "nothing in a checkpoint is executed"),
        ("activations", _nan, "weights that are no numbers (NaN or infinite), in conv3.weight"),
        ("kernels", _cut_off, "cut off"),
        ("activations", _misfit, "conv1.weight"),
        ("kernels", _markup, "[a](http:__b)**c**"),
    ],
)
def test_a_file_that_cannot_be_opened_is_one_sentence(
    look: Open, tmp_path: Path, page: str, made: Callable[[Path], str], says: str
) -> None:
    app = look(page, weights=made(tmp_path))
    refused(app, says)
    assert not (tmp_path / "canary").exists()


def test_weights_beyond_all_numbers_show_kernels_and_say_why_there_are_no_activations(
    look: Open, tmp_path: Path
) -> None:
    reference = saved(tmp_path / "huge.pt", untrained(), conv1=lambda tensor: 1e38 * tensor)
    app = look("kernels", weights=reference)
    assert not app.error
    assert "96 kernels" in words(app)
    refused(look("activations", weights=reference), "conv1 gives values that are no numbers")


def test_silent_weights_are_looked_at(look: Open, tmp_path: Path) -> None:
    reference = saved(tmp_path / "zero.pt", untrained(), **{name: torch.zeros_like for name, _ in SMALL.layers})
    app = look("kernels", weights=reference)
    assert "norm **0**" in words(app)
    assert "no direction" in words(app)
    app = look("activations", weights=reference, stage_seen="relu1")
    assert "96 are 0 everywhere on this picture" in words(app)
    for method in METHODS:
        healthy(look("activations", weights=reference, below="What it answers to", method=method))


@pytest.fixture
def convolutions(tmp_path: Path) -> str:
    whole = untrained()
    weights = {name: tensor for name, tensor in whole.weights.items() if name.startswith("conv")}
    checkpoints.save(tmp_path / "conv.pt", dataclasses.replace(whole, weights=weights))
    return f"file:{tmp_path / 'conv.pt'}"


def test_five_convolutions_alone_are_looked_at_as_far_as_they_go(look: Open, convolutions: str) -> None:
    app = look("kernels", weights=convolutions, layer="conv5")
    assert not app.error
    assert "**256 kernels of 3×3**" in words(app)
    assert "without fc6, fc7, fc8" in words(app)
    app = look("activations", weights=convolutions, stage_seen="fc6")
    assert not app.error
    said = words(app).replace("\\", "")
    assert "No classes: the checkpoint has no weights for fc6, fc7, fc8. Everything up to flatten" in said
    assert app.selectbox(key="pick_stage_seen").options == STAGES[: STAGES.index("fc6")]
    assert app.selectbox(key="pick_stage_seen").value == "conv1"
    for method in METHODS:
        app = look("activations", weights=convolutions, below="What it answers to", method=method)
        assert not app.error
        assert f"**{method}** for" in words(app) or app.info


def test_weights_without_convolutions_have_no_kernels_and_no_stages(look: Open, tmp_path: Path) -> None:
    whole = untrained()
    weights = {name: tensor for name, tensor in whole.weights.items() if name.startswith("fc")}
    checkpoints.save(tmp_path / "fc.pt", dataclasses.replace(whole, weights=weights))
    app = look("kernels", weights=f"file:{tmp_path / 'fc.pt'}")
    assert "hold no convolution of alexnet-2012@67" in app.error[0].value
    app = look("activations", weights=f"file:{tmp_path / 'fc.pt'}")
    assert "not one stage of alexnet-2012@67 can be computed" in app.error[0].value


@pytest.mark.parametrize("name", ["alexnet-owt", "vgg-a"])
def test_networks_without_lrn_and_without_towers(look: Open, tmp_path: Path, name: str) -> None:
    network = network_from(f"{name}@64").adapted(classes=3, hidden=8)
    assert not any(isinstance(layer, LRN) for _, layer in network.layers)
    reference = saved(tmp_path / "net.safetensors", untrained(network))
    app = look("kernels", weights=reference, kernel="2")
    assert not app.error
    assert "The layer in numbers" in [header.value for header in app.header]
    app = look("activations", weights=reference)
    assert app.selectbox(key="pick_stage_seen").options == [stage.name for stage in network.stages()]
    last = network.stages()[-1].name
    choose(app, "pick_stage_seen", last)
    assert f"**{last} · 3 values**" in words(app)
    healthy(look("activations", weights=reference, below="What it answers to"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "runs"
    queries.opened.clear()  # paths of runs are relative


def test_runs_of_this_machine(look: Open, runs: Path) -> None:
    app = look("kernels", weights="run:second")
    assert app.error[0].value.replace("\\", "").startswith("there is no run with a checkpoint in")
    for age, name in enumerate(("third", "second", "first")):
        run = RunDirectory.create(runs / name, {})
        run.release()
        for file, more in ((run.last, 10), (run.best, 1)):
            saved(file, untrained(), conv1=lambda tensor, times=more * (age + 1): times * tensor)
        os.utime(runs / name, (1e9 + age, 1e9 + age))
    app = look("kernels", weights="run:second", kernel="0")
    assert not app.error, app.error[0].value
    assert app.selectbox(key="weights_run").options == ["first", "second", "third"]
    assert app.selectbox(key="weights_run").value == "second"
    norm = 2 * float(untrained().weights["conv1.weight"][0].double().norm())
    assert f"norm **{norm:.4g}**" in words(app)
    app = look("kernels", weights="run:../../etc")
    assert address(app)["weights"] == "run:first/best"
    app = look("kernels", weights="run:second/last", kernel="0")
    assert f"norm **{10 * norm:.4g}**" in words(app)
    app = look("kernels", weights="run:second/step-000000007")
    assert address(app)["weights"] == "run:second/best"


# --- one choice for all pages, in their addresses --------------------------------------------------------------------


def test_a_choice_survives_a_visit_to_architecture(look: Open, convolutions: str) -> None:
    app = look("kernels", weights=convolutions, kernel="17", picture="generated:9", layer="conv2", sort="Frequency")
    visit(app, "architecture")
    assert app.metric[0].value == "60,965,224"  # which has a network of its own
    visit(app, "activations")
    assert "alexnet-2012@67" in words(app)
    assert f"**{queries.generated(9)[0]}** through" in words(app).replace("\\", "")
    choose(app, "pick_stage_seen", "pool2")
    visit(app, "kernels")
    assert app.subheader[0].value == "conv2 · kernel 17 · GPU 1"
    assert app.selectbox(key="pick_sort").value == "Frequency"
    assert address(app)["weights"] == convolutions
    visit(app, "architecture")
    visit(app, "activations")
    assert app.selectbox(key="pick_stage_seen").value == "pool2"


def test_architecture_s_network_survives_a_visit_to_kernels(look: Open) -> None:
    app = look("architecture")
    app.selectbox(key="network").set_value("vgg-e").run()
    app.text_input(key="classes").set_value("10").run()
    params = app.metric[0].value
    for page in ("kernels", "activations", "kernels"):
        visit(app, page)
        assert BUILT_IN.network.name in words(app)
    visit(app, "architecture")
    assert app.selectbox(key="network").value == "vgg-e"
    assert app.metric[0].value == params == f"{143_667_240 - 4097 * 990:,}"


def test_an_address_restores_kernels(look: Open) -> None:
    asked = {
        "weights": "built-in",
        "picture": "rocket",
        "layer": "conv3",
        "kernel": "383",
        "sort": "Norm",
        "scaling": "All alike",
    }
    app = look("kernels", **asked)
    assert app.subheader[0].value == "conv3 · kernel 383 · GPU 2"
    assert app.selectbox(key="pick_sort").value == "Norm"
    assert app.selectbox(key="pick_scaling").value == "All alike"
    assert app.selectbox(key="picture_sample").value == "rocket"
    assert {name: address(app)[name] for name in asked} == asked


def test_an_address_restores_activations(look: Open) -> None:
    asked = {
        "weights": "built-in",
        "picture": "generated:3",
        "stage_seen": "pool2",
        "map": "200",
        "row": "1",
        "column": "5",
        "maps_sort": "Maximum",
        "maps_scale": "All alike",
        "maps_colours": "Grey",
        "below": "What it answers to",
        "method": "Gradient",
    }
    app = look("activations", **asked)
    assert "**pool2 · map 200** at row 1, column 5" in words(app)
    assert "**Gradient** for" in words(app)
    assert {name: address(app)[name] for name in asked} == asked


NONSENSE = ("", "-1", "1e3", "٣", "²", "0" * 9 + "1234567", "9" * 5000, "<script>")


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_in_the_address_of_kernels_falls_back(look: Open, text: str) -> None:
    names = ("weights", "picture", "layer", "kernel", "sort", "channels", "scaling")
    app = look("kernels", **dict.fromkeys(names, text))
    assert not app.error
    assert app.subheader[0].value == "conv1 · kernel 0 · GPU 1"
    found = address(app)
    assert "kernel" not in found
    assert {name: found[name] for name in names if name != "kernel"} == {
        "weights": "built-in",
        "picture": "cat",
        "layer": "conv1",
        "sort": "Number",
        "channels": "Colour",
        "scaling": "Each kernel",
    }


def test_a_network_in_the_box_that_is_not_there_falls_back(look: Open) -> None:
    app = look("kernels", weights="built-in:cifar")
    assert not app.error
    assert address(app)["weights"] == "built-in"
    assert any("built-in:cifar" in warning.value.replace("\\", "") for warning in app.warning)


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_in_a_number_of_the_weights_or_of_the_picture_falls_back(look: Open, text: str) -> None:
    app = look("activations", weights=f"random:alexnet-half:{text}", picture=f"generated:{text}")
    assert not app.error
    assert address(app)["weights"] == "random:alexnet-half:0"
    assert address(app)["picture"] == "cat"


@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_in_the_address_of_activations_falls_back(look: Open, text: str) -> None:
    names = ("map", "row", "column", "value", "target", "window_channel")
    names += ("maps_sort", "maps_scale", "maps_colours")
    everywhere = dict.fromkeys(names, text)
    app = look("activations", stage_seen=text, below=text, **everywhere)
    assert not app.error
    channel, row, column = np.unravel_index(int(cat()["conv1"].argmax()), cat()["conv1"].shape)
    assert f"**conv1 · map {channel}** at row {row}, column {column}" in words(app)
    assert app.subheader[0].value == f"conv1, channel {channel}, row {row}, column {column}"
    app = look("activations", stage_seen="fc8", below="What it answers to", method=text, **everywhere)
    assert not app.error
    assert f"**fc8 · 10 values** at value {int(cat()['fc8'].argmax())}" in words(app)
    assert "**Grad-CAM** for" in words(app)


def test_a_place_that_a_stage_lacks_is_given_up_and_others_are_kept(look: Open) -> None:
    app = look("activations", stage_seen="pool5", map="255", row="31", column="2")
    values = cat()["pool5"][255]
    assert f"**pool5 · map 255** at row {int(values.argmax()) // values.shape[1]}, column 2" in words(app)
    assert "row" not in address(app)


def test_an_upload_has_no_address_and_stays_over_other_pages(look: Open, tmp_path: Path) -> None:
    saved(tmp_path / "mine.pt", untrained())
    app = look("kernels", picture="rocket")
    choose(app, "weights_from", "Upload")
    assert app.error[0].value.startswith("nothing uploaded yet")
    assert "weights" not in address(app)
    app.file_uploader(key="weights_upload").upload("mine.pt", (tmp_path / "mine.pt").read_bytes()).run()
    healthy(app)
    assert not app.error
    assert "alexnet-2012@67" in words(app)
    assert "weights" not in address(app)
    assert address(app)["picture"] == "rocket"
    visit(app, "architecture")
    visit(app, "activations")
    assert "alexnet-2012@67" in words(app)


def test_an_uploaded_picture_is_looked_at_and_no_address_says_another(look: Open) -> None:
    app = look("activations", stage_seen="conv1", map="0", row="3", column="4")
    pixels = np.random.default_rng(0).integers(0, 256, (140, 131, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    choose(app, "picture_from", "Upload")
    app.file_uploader(key="picture_upload").upload("noise.png", file.getvalue()).run()
    healthy(app)
    _, inputs = looked_at(BUILT_IN.preprocessing, pixels)
    weights = BUILT_IN.weights
    value = torch.nn.functional.conv2d(inputs, weights["conv1.weight"][:1], weights["conv1.bias"][:1], 4)[0, 0, 3, 4]
    shown = next(text.value for text in app.markdown if text.value.startswith("**conv1 · map 0** at row 3, column 4"))
    assert float(shown.partition(": **")[2].partition("**")[0]) == pytest.approx(float(value), rel=1e-3)
    assert "picture" not in address(app)
    app.file_uploader(key="picture_upload").set_value(("words.jpg", b"no picture at all", "image/jpeg")).run()
    assert len(healthy(app).error) == 1
    assert "words.jpg" in app.error[0].value.replace("\\", "")
