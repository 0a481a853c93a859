"""The page that starts a training: every value of it can be said, and whatever is said there is answered."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from streamlit.testing.v1 import AppTest

from alexnet import __main__ as command_line
from alexnet import checkpoints, launch, options
from alexnet.about import about
from alexnet.config import ANEW, KEPT_BY_BRANCHES, TrainConfig, option
from alexnet.data.sources import open_data
from alexnet.presets import PRESETS, configured
from alexnet.runs import RunDirectory
from alexnet.zoo import network_from
from analysis.costs import cost_table
from app import queries, running, start_data, start_fields, start_form, start_measure
from app.start_form import CHOICES, FIELDS, RECIPE, key
from tests.training import folder_of_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# One process for all of them: torch is loaded once, and what was opened stays open.
pytestmark = pytest.mark.xdist_group("start")

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
NAMES = [name for name in FIELDS if name not in {"data", "preset"}]
TYPED = [name for name in NAMES if name not in CHOICES and name != "device"]
GOOD: dict[str, tuple[str, Any]] = {
    "hidden": ("32", 32), "dropout": ("0.25", 0.25), "epochs": ("3", 3), "batch": ("16", 16), "seed": ("7", 7),
    "val_fraction": ("0.2", 0.2), "optimiser": ("adamw", "adamw"), "learning_rate": ("1e-3", 0.001),
    "momentum": ("0.5", 0.5), "weight_decay": ("0", 0.0), "schedule": ("plateau", "plateau"), "patience": ("2", 2),
    "drops": ("1", 1), "warmup_epochs": ("0.5", 0.5), "label_smoothing": ("0", 0.0),
    "initialisation": ("he", "he"), "side": ("140", 140), "mean": ("channel", "channel"),
    "unit_variance": ("no", False), "random_crop": ("no", False), "mirror": ("no", False),
    "colour_noise": ("0", 0.0), "jitter_to": ("150", 150), "on_unreadable": ("stop", "stop"),
    "validate_every": ("0.5", 0.5), "checkpoint_minutes": ("5", 5.0), "keep_every": ("2", 2),
    "max_steps": ("40", 40), "probes": ("6", 6), "layers_every": ("0", 0), "device": ("cpu", "cpu"),
    "precision": ("float32", "float32"), "channels_last": ("off", "off"), "fused_lrn": ("off", "off"),
    "fused_optimiser": ("off", "off"), "compile": ("off", "off"), "workers": ("0", 0), "threads": ("1", 1),
}  # fmt: skip
"""A value of every field but the network, which has three of its own: what is typed, and what it means."""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which no run is yet; nothing is started but what a test asks for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(queries.Verification, "start", lambda _: None)
    monkeypatch.setattr(queries, "devices", lambda: ["cpu"])
    yield tmp_path
    for measured in tuple(start_measure._running):
        assert measured.process is not None
        measured.process.kill()
        measured.process.wait()
        measured.collect()


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked of `launch`, whose runs have a folder and no process."""
    asked: list[tuple[Any, ...]] = []

    def noted(kind: str) -> Callable[..., RunDirectory]:
        def start(root: Path, *what: Any, waits: bool) -> RunDirectory:
            asked.append((kind, *what, waits))
            path = root / f"20260101-00000{len(asked)}-noted"
            path.mkdir(parents=True)
            values = what[0].as_json() if isinstance(what[0], TrainConfig) else what[1]
            (path / "request.json").write_text(json.dumps(dataclasses.asdict(launch.Request(values))))
            return RunDirectory(path)

        return start

    monkeypatch.setattr(launch, "start", noted("start"))
    monkeypatch.setattr(launch, "start_branch", noted("branch"))
    return asked


def opened(**address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    app.query_params.update(address)
    return healthy(app.switch_page("screens/start.py").run())


def healthy(app: AppTest) -> AppTest:
    assert not app.exception, app.exception[0].stack_trace
    return app


def say(app: AppTest, **values: Any) -> AppTest:
    """Types and chooses, and has the page answer once."""
    for name, value in values.items():
        chosen = name in CHOICES or name in {"device", "preset"}
        (app.selectbox if chosen else app.text_input)(key=key(name)).set_value(value)
    return healthy(app.run())


def use(app: AppTest, data: Path | str) -> AppTest:
    """Names a folder."""
    app.segmented_control(key=key("data_kind")).set_value("Folder").run()
    return healthy(app.text_input(key=key("path_1")).set_value(str(data)).run())


def start_button(app: AppTest) -> Any:
    return next(button for button in app.button if (button.key or "").startswith("start_button_"))


def listed(app: AppTest) -> str:
    """What stands in the way, by the list before the start."""
    return next((error.value for error in app.error if "in the way" in error.value), "").replace("\\", "")


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption).replace("\\", "")


def metrics(app: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in app.metric}


# --- every value -----------------------------------------------------------------------------------------------------


def test_every_value_of_a_recipe_is_on_the_page_with_its_option_source_and_meaning() -> None:
    app = opened()
    widgets = {widget.key: widget for widget in (*app.text_input, *app.selectbox)}
    for name in NAMES:
        widget = widgets[key(name)]
        about, _, command = widget.help.partition(".  \n")
        assert about.lower() == start_fields._ABOUT.get(name, FIELDS[name].metadata["about"]).lower()
        assert command == f"On the command line: `{option(name)}`."
        assert widget.label == start_form.LABELS[name]
    sources = [caption.value for caption in app.caption]
    assert sources.count("preset quick") == len(PRESETS[2].changes) + 2  # the network's is below three fields
    assert sources.count("paper, section 5") == 1  # momentum alone: quick has another value of all the others
    assert "--" not in captions(app)
    assert widgets["field_learning_rate"].placeholder == "0.02"
    assert widgets["field_threads"].placeholder == "chosen by the machine"
    assert not app.error
    assert not start_button(app).disabled


def test_groups_are_the_command_lines() -> None:
    titles = {begins: title.lower() for begins, title in start_form.GROUPS.items() if begins != "network"}
    assert titles == {begins: title for begins, (title, _) in options._GROUPS.items()}
    assert [name for title in start_form.GROUPS.values() for name in start_fields.group(title)] == NAMES


def test_the_training_that_starts_is_what_the_fields_say(started: list[tuple[Any, ...]]) -> None:
    assert set(GOOD) == set(NAMES) - {"network"}
    app = opened()
    say(app, network="alexnet-2012", input="67", variant="no-lrn", **{name: typed for name, (typed, _) in GOOD.items()})
    assert not app.error
    shown = app.code[0].value
    start_button(app).click().run()
    expected = configured(
        "quick", "built-in", network="alexnet-2012@67:no-lrn", **{name: meant for name, (_, meant) in GOOD.items()}
    )
    assert started == [("start", expected, False)]
    # The command shown means the same, by the command line's own parser.
    words = shown.split()[3:]
    given = command_line._given(options.parser().parse_args(words))
    assert configured(given.pop("preset"), given.pop("data"), **given) == expected


def test_untouched_a_preset_starts_as_it_is(started: list[tuple[Any, ...]]) -> None:
    for preset in PRESETS:
        app = opened(preset=preset.name)
        # The larger presets may not fit into this machine's memory, which is another matter.
        say(app, batch="1", device="cpu")
        start_button(app).click().run()
        assert started.pop()[1] == configured(preset.name, "built-in", batch=1, device="cpu")
    assert not started


def test_what_one_step_costs_is_counted_for_the_network_at_hand() -> None:
    app = opened(preset="paper-2012")
    shown = metrics(app)
    assert shown["Parameters"] == f"{60_965_224 - 990 * 4097:,}"  # ten classes in place of 1,000
    assert shown["MACs for an image"] == f"{724_406_816 - 990 * 4096:,}"
    say(app, network="vgg-d")
    assert metrics(app)["Parameters"] == f"{138_357_544 - 990 * 4097:,}"


def test_steps_follow_from_data_and_recipe() -> None:
    app = say(opened(), batch="100", epochs="3", validate_every="2", probes="5")
    assert metrics(app) | {"Steps": "120", "Steps an epoch": "40", "Epochs": "3", "Validations": "2"} == metrics(app)
    assert "to 0.0152 at step 40, then falls along a cosine to 3.43e-06 at step 120, the last." in captions(app)
    say(app, schedule="plateau")
    assert "after 4 validations without a lower error, for which 2 validations are too few here" in captions(app)
    say(app, validate_every="0.5")
    assert "no drop is drawn" in captions(app)


# --- bad input -------------------------------------------------------------------------------------------------------


BAD = ("abc", "nan", "-inf", "1e300", "0,5", "½", "٣", "\x00", "1" * 5_000, "[a](b)")


def test_a_bad_value_in_every_field_is_named_and_nothing_is_lost() -> None:
    app = opened()
    for bad in BAD:
        say(app, name="kept", **dict.fromkeys(TYPED, bad))
        said = listed(app)
        for name in TYPED:
            assert f"{start_form.label(name)} must be" in said
            assert f":red[{start_form.label(name)} must be" in captions(app)
            assert app.text_input(key=key(name)).value == bad
        assert "--" not in said
        assert app.text_input(key=key("name")).value == "kept"
        assert start_button(app).disabled
        assert f"{len(TYPED)} problems stand in the way" in captions(app)


def test_a_network_that_there_is_not_has_no_costs() -> None:
    app = opened()
    costs = ("Parameters", "MACs for an image", "To train on an image")
    before = [metrics(app)[name] for name in costs]
    for wrong in (
        {"hidden": "33"},
        {"hidden": "", "input": "10"},
        {"input": "", "network": "vgg-d", "variant": "no-lrn"},
    ):
        say(app, **wrong)
        assert [metrics(app)[name] for name in costs] == ["—"] * 3
    # What is wrong beside a network that there is, or beside the preset's own values, leaves the network's costs.
    say(app, network="alexnet-2012", variant=None, input="67", side="60", epochs="x", jitter_to="abc", momentum="2")
    assert start_button(app).disabled
    expected = configured("quick", "built-in", network="alexnet-2012@67").described_network(10)
    found = cost_table(expected)
    total = f"{found.total('macs') + found.total('backward_macs'):,}"
    assert [metrics(app)[name] for name in costs] == [f"{found.total('params'):,}", f"{found.total('macs'):,}", total]
    assert before != [metrics(app)[name] for name in costs]


def refused(place: Path, app: AppTest | None = None, **values: Any) -> AppTest:
    """The form of a run that was asked for with these values, by another version or on another machine."""
    run = place / "runs" / "20260101-000000-refused"
    run.mkdir(parents=True, exist_ok=True)
    asked = launch.Request(configured("quick", "built-in").as_json() | values)
    (run / "request.json").write_text(json.dumps(dataclasses.asdict(asked)))
    return arriving(f"again:{run.name}", app)


def test_choices_that_there_are_not_are_named(place: Path) -> None:
    chosen = [name for name in NAMES if name in CHOICES]
    app = refused(place, **dict.fromkeys(chosen, "nothing[a](b)"))
    for name in chosen:
        told = "there is no network named" if name == "network" else f"{start_form.label(name)} must be".lower()
        assert told in listed(app).lower()
        assert app.selectbox(key=key(name)).value == "nothing[a](b)"
    assert start_button(app).disabled
    app.button(key="start_reset").click()
    assert not listed(healthy(app.run()))


def test_devices_are_offered_one_by_one_and_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert opened().selectbox(key=key("device")).options == ["auto", "cpu"]
    monkeypatch.setattr(queries, "devices", lambda: ["cuda:0", "cuda:1", "cpu"])
    assert opened().selectbox(key=key("device")).options == ["auto", "cuda:0", "cuda:1", "cpu", "cuda:0,cuda:1"]


def test_a_device_that_there_is_not_is_named(place: Path) -> None:
    app = None
    for device, says in (
        ("cuda:99", "**Device** cuda:99"),
        ("gpu", "**Device** must be"),
        ("meta", "**Device** must be cpu or cuda"),
        ("cpu,cpu,cpu", "**Device** takes one device, or two"),
        ("a\x00b", "**Device**"),
    ):
        app = refused(place, app, device=device)
        assert says in listed(app)
        assert says in captions(app)
        assert start_button(app).disabled


def test_values_that_do_not_go_together_are_a_sentence() -> None:
    app, before = opened(), dict[str, Any]()
    for values, says in (
        ({"epochs": "0"}, "**epochs** must be from 1"),
        ({"batch": "-5"}, "**batch** must be from 1"),
        ({"batch": "5000"}, "more than the 4000 training pictures"),
        ({"hidden": "33"}, "do not split over the 2 towers"),
        ({"hidden": "-1"}, "the width of the hidden layers"),
        ({"input": "x"}, "**input side** is a number of pixels like 224"),
        ({"input": "٦٧"}, "**input side** is a number of pixels like 224"),
        ({"input": "10"}, "conv1"),
        ({"input": "131:no-lrn:x"}, "**variant** is one of the list or nothing"),
        ({"network": "vgg-d", "variant": "no-lrn"}, "has no lrn to leave out"),
        ({"jitter_to": "100"}, "**scale jitter up to** 100 is below the short side"),
        ({"side": "100"}, "**short side** 100 is smaller than the network's input 131×131: crops do not fit"),
        ({"side": "100"}, "give at least 131, or a smaller **input side**"),
        ({"optimiser": "adamw", "precision": "float16"}, "adamw is not used with float16"),
        ({"name": "x" * 81}, "at most 80 characters"),
        ({"name": "a\u202eb"}, "control character"),
    ):  # fmt: skip
        say(app, **{name: start_form.empty(name) for name in before} | values)
        before = values
        assert says in listed(app).lower()
        assert says in captions(app).lower()
        assert start_button(app).disabled


def test_empty_and_spaces_are_the_presets_values(started: list[tuple[Any, ...]]) -> None:
    app = say(opened(), **dict.fromkeys(TYPED, "   "))
    start_button(app).click().run()
    assert [config for _, config, _ in started] == [configured("quick", "built-in")]


def test_too_little_memory_and_disk_are_said_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from alexnet import machine, plan

    monkeypatch.setattr(machine, "available_bytes", lambda _: 20 << 20)
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(plan.shutil, "disk_usage", lambda _: usage)
    app = opened()
    assert "**Batch** 64 does not fit" in listed(app)
    assert "the disk has 1.0 mib free, and this run may need" in listed(app).lower()
    assert start_button(app).disabled


def test_a_place_where_no_run_can_be_written_is_said(place: Path) -> None:
    (place / "runs").write_text("a file")
    assert "runs is a file; start the page from another folder" in listed(opened())


# --- data ------------------------------------------------------------------------------------------------------------


def test_data_that_is_not_named_yet_is_no_mistake() -> None:
    app = opened()
    for kind in start_form.DATA_KINDS[1:]:
        app.segmented_control(key=key("data_kind")).set_value(kind).run()
        for typed in ("", "   "):
            healthy(app.text_input(key=key(start_form.path_name(kind))).set_value(typed).run())
            assert not app.error
            assert "Type the path" in app.info[0].value
            assert "still to be typed" in app.info[1].value
            assert "The path of the data is still to be typed, under Data." in captions(app)
            assert not app.success
            assert start_button(app).disabled
            assert app.button(key="start_measure").disabled
    say(app, epochs="0")
    assert "**1 thing stands in the way:**\n* **Epochs** must be" in listed(app)


def test_data_that_cannot_be_used_is_said_in_the_librarys_words(place: Path) -> None:
    (place / "empty").mkdir()
    (place / "file.txt").write_text("no picture")
    folder_of_pictures(place / "all", classes=1, per_class=1, val=1)
    (place / "all" / "train" / "class0").rename(place / "flat")
    app = say(opened(), epochs="3")
    for path, says in (
        ("/nowhere/at/all", "Cannot open '/nowhere/at/all'"),
        ("a\x00b", "Cannot open"),
        ("~nosuchuserhere/x", "Cannot open"),
        ("x" * 5_000, "Cannot open"),
        ("-x", "Cannot open '-x'"),
        (f"{place}/empty", "holds no picture"),
        (f"{place}/file.txt", "is a text file, and no pictures"),
        (f"{place}/flat", "but no class folders"),
    ):
        use(app, path)
        assert says in app.error[0].value.replace("\\", "")
        assert says in listed(app)
        assert start_button(app).disabled
        assert app.text_input(key=key("path_1")).value == path
        assert app.text_input(key=key("epochs")).value == "3"
    app.segmented_control(key=key("data_kind")).set_value("Built in").run()
    assert not healthy(app).error


def test_a_folder_is_opened_and_named_from_the_root(place: Path, started: list[tuple[Any, ...]]) -> None:
    folder_of_pictures(place / "pictures", classes=3, per_class=4, val=2)
    app = say(use(opened(), "pictures"), batch="4")
    assert any("12 pictures to train and 6 to validate, 3 classes" in text.value for text in app.markdown)
    assert metrics(app)["Steps an epoch"] == "3"
    app.toggle(key="start_show_classes").set_value(True).run()
    table = app.dataframe[0].value
    assert table["To train" if "To train" in table else "train"].tolist() == [4, 4, 4, 12]
    start_button(app).click().run()
    assert started[0][1].data == str(place / "pictures")


def test_pictures_that_come_later_are_seen(place: Path) -> None:
    app = use(opened(), place / "later")
    assert "Cannot open" in listed(app)
    folder_of_pictures(place / "later", classes=2, per_class=70, val=1)
    start_data.version.clear()
    healthy(app.run())
    assert not app.error
    assert metrics(app)["Steps an epoch"] == "2"


def test_data_that_takes_long_holds_nothing_up(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    go_on = threading.Event()
    folder_of_pictures(place / "slow", classes=2, per_class=64, val=1)

    def slow(*what: Any, **how: Any) -> Any:
        go_on.wait(30)
        return open_data(*what, **how)

    monkeypatch.setattr(start_data, "open_data", slow)
    monkeypatch.setattr(start_data, "_PATIENCE_SECONDS", 0.05)
    app = use(opened(), place / "slow")
    assert "Looking through" in app.info[0].value
    assert "The data is still being looked through" in app.info[1].value
    assert not listed(app)
    assert start_button(app).disabled
    go_on.set()
    deadline = time.monotonic() + 20
    while start_button(healthy(app.run())).disabled:
        assert time.monotonic() < deadline
    assert metrics(app)["Steps an epoch"] == "2"


def test_a_preview_is_drawn_when_it_is_asked_for(place: Path) -> None:
    folder_of_pictures(place / "pictures", classes=2, per_class=6, val=1)
    app = say(use(opened(), place / "pictures"), input="67", side="76", batch="4")
    assert not [button for button in app.button if button.key == "start_draw_again"]
    app.toggle(key="start_show_preview").set_value(True)
    deadline = time.monotonic() + 60
    while not [button for button in healthy(app.run()).button if button.key == "start_draw_again"]:
        assert time.monotonic() < deadline
    assert "As drawn with the seed of the form." in captions(app)
    app.button(key="start_draw_again").click()
    while "As drawn with seed 1." not in captions(healthy(app.run())):
        assert time.monotonic() < deadline


# --- presets, addresses, other pages ---------------------------------------------------------------------------------


def test_another_preset_keeps_what_was_typed(started: list[tuple[Any, ...]]) -> None:
    app = say(opened(), learning_rate="0.5", mirror="no")
    say(app, preset="modern", batch="8")
    assert app.text_input(key=key("epochs")).placeholder == "90"
    below = [caption.value for caption in app.caption]
    assert below.count("yours") == 3
    # of its nine changes batch and learning rate are ours now
    assert below.count("preset modern") == len(PRESETS[1].changes) - 2
    labels = [expander.label for expander in app.expander]
    assert "**Pictures** · 1 of 8 differ from the preset" in labels
    start_button(app).click().run()
    assert started[0][1] == configured("modern", "built-in", learning_rate=0.5, mirror=False, batch=8)


def test_reset_empties_the_recipe_and_keeps_the_data(place: Path) -> None:
    folder_of_pictures(place / "pictures", classes=2, per_class=64, val=1)
    app = say(use(opened(), place / "pictures"), variant="no-lrn", **{name: typed for name, (typed, _) in GOOD.items()})
    app.button(key="start_reset").click()
    healthy(app.run())
    assert not any(app.session_state[key(name)] for name in RECIPE)
    assert app.text_input(key=key("path_1")).value == str(place / "pictures")
    assert app.button(key="start_reset").disabled


def test_side_and_variant_belong_to_the_network_beside_them() -> None:
    app = opened()  # quick has alexnet-2012@131
    assert app.text_input(key=key("input")).placeholder == "131"
    say(app, network="vgg-a")
    assert app.text_input(key=key("input")).placeholder == "224"
    assert "vgg-a with 3×224×224 input" in captions(app)
    say(app, network=None, variant="no-lrn")
    assert "alexnet-2012@131:no-lrn with 3×131×131 input" in captions(app)


def test_an_address_may_change_several_things_in_a_network() -> None:
    app = opened(preset="quick", net="alexnet-2012@67:tanh:no-lrn")
    assert not app.warning
    assert app.selectbox(key=key("variant")).value == "no-lrn:tanh"
    assert "alexnet-2012@67:no-lrn:tanh with 3×67×67 input" in captions(app)


def test_the_address_says_what_decides_most(place: Path) -> None:
    folder_of_pictures(place / "pictures", classes=2, per_class=64, val=1)
    said = {"data": str(place / "pictures"), "preset": "modern", "net": "alexnet-2012@67:no-lrn"}
    app = opened(**said)
    assert not app.warning
    assert "alexnet-2012@67:no-lrn with 3×67×67 input and 2 classes" in captions(app)
    assert {name: value for name, value in app.query_params.items() if name in said} == said
    say(app, preset="quick", network=None, input="", variant=None)
    assert app.query_params["preset"] == "quick"
    assert "net" not in app.query_params


def test_the_network_of_an_address_may_have_its_other_name() -> None:
    app = opened(network="vgg16")
    assert "vgg-d with 3×224×224 input" in captions(app)
    assert app.query_params["net"] == "vgg-d"
    assert "network" not in app.query_params


def test_the_network_of_the_pages_that_count_is_theirs() -> None:
    app = AppTest.from_file(str(MAIN), default_timeout=120)
    app.query_params["network"] = "vgg-e"
    healthy(app.run())
    healthy(app.switch_page("screens/start.py").run())
    assert app.selectbox(key=key("network")).value is None


def test_a_wrong_address_is_said_and_ignored() -> None:
    app = opened(preset="slow", net="nope@5", branch="gone/last", data="/nowhere")
    notice = app.warning[0].value.replace("\\", "")
    for told in ("no preset 'slow'", "there is no network named 'nope'", "there is no run 'gone'"):
        assert told in notice
    assert app.selectbox(key=key("preset")).value == "quick"
    assert "Cannot open '/nowhere'" in listed(app)


def test_what_was_typed_outlives_a_visit_elsewhere() -> None:
    app = opened()
    say(app, preset="modern", name="mine", epochs="x", mirror="no", variant="no-lrn")
    app.query_params.clear()
    healthy(app.switch_page("screens/architecture.py").run())
    app.query_params.clear()
    healthy(app.switch_page("screens/start.py").run())
    assert app.text_input(key=key("epochs")).value == "x"
    assert app.text_input(key=key("name")).value == "mine"
    assert [app.selectbox(key=key(name)).value for name in ("preset", "mirror", "variant")] == [
        "modern",
        "no",
        "no-lrn",
    ]


# --- the start -------------------------------------------------------------------------------------------------------


def test_the_start_leads_to_the_run_with_its_name_and_note(started: list[tuple[Any, ...]], place: Path) -> None:
    app = say(opened(), name="  a *name*  ")
    app.text_area(key=key("note")).set_value("why\nindeed").run()
    start_button(app).click()
    healthy(app.run())
    assert len(started) == 1
    run = place / "runs" / "20260101-000001-noted"
    assert (about(run).name, about(run).note) == ("a *name*", "why\nindeed")
    assert app.title[0].value == "a \\*name\\*"
    app.query_params.clear()
    healthy(app.switch_page("screens/start.py").run())
    assert app.text_input(key=key("name")).value == ""


def test_a_second_click_starts_nothing(started: list[tuple[Any, ...]]) -> None:
    app = opened()
    button = start_button(app)
    button.click()
    app.run()
    app.switch_page("screens/start.py")
    button.click()  # the one that was clicked before
    healthy(app.run())
    assert len(started) == 1


def test_a_click_that_interrupts_the_start_only_follows_it(started: list[tuple[Any, ...]]) -> None:
    app = opened()
    app.session_state["start_launched"] = "20260101-000009-first"
    start_button(app).click()
    healthy(app.run())
    assert started == []
    assert "start_launched" not in app.session_state


def test_a_start_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise launch.LaunchError("no run can be begun in runs: the disk is full: make room first")

    monkeypatch.setattr(launch, "start", refused)
    app = say(opened(), epochs="7", name="mine")
    start_button(app).click()
    healthy(app.run())
    assert "the disk is full" in app.error[0].value
    assert app.text_input(key=key("epochs")).value == "7"
    assert app.text_input(key=key("name")).value == "mine"
    assert not start_button(app).disabled


def test_beside_other_trainings_it_waits_or_not(
    started: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "others_alive", lambda *_: ["first", "se*cond"])
    for turn, waits in ((0, True), (1, False)):
        app = opened()
        radio = app.radio(key=key("waits"))
        assert "first, se\\*cond" in radio.label
        assert app.code[0].value.endswith(" --queue")  # to wait is offered first
        radio.set_value(radio.options[turn]).run()
        assert app.code[0].value.endswith(" --queue") is waits
        start_button(app).click().run()
        assert started.pop()[-1] is waits


def test_alone_nobody_is_asked_to_wait(started: list[tuple[Any, ...]]) -> None:
    app = opened()
    assert not app.radio
    start_button(app).click().run()
    assert started[0][-1] is False


@pytest.mark.slow
def test_a_real_training_starts_and_ends(place: Path) -> None:
    values = {"epochs": "1", "batch": "8", "max_steps": "2", "probes": "0", "fused_lrn": "off", "hidden": "32"}
    app = say(opened(), input="67", side="76", **values)
    start_button(app).click().run()
    (run,) = (RunDirectory(path) for path in (place / "runs").iterdir())
    deadline = time.monotonic() + 300
    while run.condition() in running.ALIVE:  # "silent" too, on a busy machine
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert run.condition() == "finished", run.errors_path.read_text()
    assert run.config()["config"] == configured(
        "quick", "built-in", network="alexnet-2012@67", side=76, epochs=1, batch=8, max_steps=2, probes=0,
        fused_lrn="off", hidden=32,
    ).as_json()  # fmt: skip


# --- from other runs -------------------------------------------------------------------------------------------------

PARENT = configured("quick", "built-in", network="alexnet-2012@67", hidden=32, side=76, epochs=3, momentum=0.8)


def parent_of(place: Path, config: TrainConfig, called: str = "parent", **training: Any) -> str:
    """A run of this recipe with a checkpoint at step 62."""
    run = place / "runs" / f"20260101-000000-{called}"
    (run / "checkpoints").mkdir(parents=True)
    splits = open_data("built-in")
    checkpoint = dataclasses.replace(
        checkpoints.untrained(network_from(config.network).adapted(classes=10, hidden=32)),
        classes=tuple(splits.train.classes),
        config=config.as_json(),
        training={"step": 62, "pictures": len(splits.train)} | training,
    )
    checkpoints.save(run / "checkpoints" / "last.pt", checkpoint)
    (run / "config.json").write_text(json.dumps({"config": config.as_json()}))
    return run.name


@pytest.fixture
def parent(place: Path) -> str:
    return parent_of(place, PARENT)


def arriving(asked: str, app: AppTest | None = None) -> AppTest:
    app = app or AppTest.from_file(str(MAIN), default_timeout=120)
    app.session_state["start_from"] = asked
    return healthy(app.switch_page("screens/start.py").run())


def test_a_branch_changes_only_what_it_is_told_to(started: list[tuple[Any, ...]], parent: str, place: Path) -> None:
    app = arriving(f"branch:{parent}/last")
    assert app.title[0].value == f"Branch of {parent}"
    assert "start_from" not in app.session_state
    widgets = {widget.key: widget for widget in (*app.text_input, *app.selectbox)}
    for name in NAMES:
        assert widgets[key(name)].disabled is (name in KEPT_BY_BRANCHES)
    assert widgets["field_momentum"].placeholder == "0.8"
    below = [caption.value for caption in app.caption]
    assert below.count("every branch keeps it") == len(KEPT_BY_BRANCHES) + 2  # the network has three fields
    assert "It goes on after step 62" in app.info[0].value
    shown = metrics(app)  # of three epochs of 62 steps, one is done
    assert (shown["Steps left"], shown["Epochs left"], shown["Validations"]) == ("124", "2", "2")
    rate = 0.02 * (1 + math.cos(math.pi * 62 / 186)) / 2
    said = f"The branch begins with step 63. It falls from {rate:.3g} at step 63 along a cosine to "
    assert said in captions(app)
    say(app, epochs="9", learning_rate="0.004")
    assert " --branch " in app.code[0].value
    start_button(app).click().run()
    origin = place / "runs" / parent / "checkpoints" / "last.pt"
    kind, path, changes, waits = started[0]
    assert (kind, path.resolve(), changes, waits) == ("branch", origin, {"epochs": 9, "learning_rate": 0.004}, False)


def test_some_changes_leave_a_branch_the_weights_alone(parent: str) -> None:
    app, values = arriving(f"branch:{parent}/last"), {"batch": "32", "optimiser": "adamw"}
    assert set(values) == ANEW
    for name, value in values.items():
        say(app, **{other: start_form.empty(other) for other in values} | {name: value})
        assert f"{start_form.label(name)} changed, so the branch starts at step 0 with the weights alone" in (
            app.info[0].value
        )
        assert "Steps left" not in metrics(app)


def test_a_branch_of_a_plateau_goes_on_where_that_was(place: Path) -> None:
    state = {"rate": 0.0001, "patience": 4, "drops_left": 1, "best_error": 0.4, "stalled_for": 3, "finished": False}
    changes = {"schedule": "plateau", "max_steps": 500, "dropout": 0.3, "workers": 1, "keep_every": 2}
    name = parent_of(place, dataclasses.replace(PARENT, **changes), plateau=state)
    app = arriving(f"branch:{name}/last")
    # Two of three validations are left, and the stall has one to go.
    said = "The branch begins with step 63. It stays at 0.0001 until step 186, the last. After 4 validations without a "
    assert f"{said}lower error it is divided by 10, to 1e-05. When that happens" in captions(app)
    assert any("last, best, 1 kept, one being written" in caption.value for caption in app.caption)
    below = [caption.value for caption in app.caption]
    for told in ("for no limit type a large number", "the network’s own is 0.5", "every branch has a number here"):
        assert below.count(f"as in that run · {told}") == 1
    say(app, max_steps="600")
    assert "for no limit" not in captions(app)
    say(app, learning_rate="0.01")  # which begins the plateau anew: two validations bring no stall of four
    assert "It stays at 0.01 until step 186, the last. It is divided by 10 after 4 validations" in captions(app)
    state |= {"finished": True, "drops_left": 0}
    name = parent_of(place, dataclasses.replace(PARENT, **changes), "finished", plateau=state)
    app = arriving(f"branch:{name}/last", app)
    assert "there is nothing left to train; give more **Drops**, or another **Schedule**" in listed(app)
    say(app, schedule="cosine")
    assert not listed(app)


def test_a_branch_must_have_something_left_to_train(parent: str) -> None:
    app = say(arriving(f"branch:{parent}/last"), epochs="1")
    assert "there is nothing left to train; give more **Epochs**" in listed(app)
    say(app, epochs="2", max_steps="62")
    assert "**At most** 62 ends at step 62" in listed(app)
    assert "there is nothing left to train; give more **At most**" in listed(app)
    say(app, max_steps="")
    assert not listed(app)


def test_a_branch_keeps_its_classes(parent: str, place: Path) -> None:
    folder_of_pictures(place / "others", classes=3, per_class=40, val=1)
    app = use(arriving(f"branch:{parent}/last"), place / "others")
    assert "a branch keeps its classes; start a new run for others" in listed(app)


def test_one_can_go_back_from_a_branch(parent: str) -> None:
    app = opened(branch=f"{parent}/last")
    assert app.title[0].value == f"Branch of {parent}"
    app.button(key="start_no_branch").click()
    healthy(app.run())
    assert app.title[0].value == "Start a training"
    assert not app.text_input(key=key("seed")).disabled
    assert "branch" not in app.query_params


def test_a_checkpoint_that_vanishes_is_said(parent: str, place: Path) -> None:
    app = arriving(f"branch:{parent}/last")
    (place / "runs" / parent / "checkpoints" / "last.pt").unlink()
    healthy(app.run())
    assert "there is nothing at" in app.error[0].value
    assert app.title[0].value == "Start a training"


def test_what_cannot_be_taken_over_is_said(parent: str) -> None:
    app = None
    for asked in ("branch:gone/last", "again:gone", "like:gone", "like:../x", f"branch:{parent}/best", "odd:"):
        app = arriving(asked, app)
        assert "any more" in app.error[0].value
        assert app.title[0].value == "Start a training"


def test_a_form_like_a_run_starts_the_same_training(started: list[tuple[Any, ...]], parent: str) -> None:
    app = arriving(f"like:{parent}")
    assert app.text_input(key=key("epochs")).value == "3"
    assert app.text_input(key=key("learning_rate")).value == ""  # the preset's
    start_button(app).click().run()
    assert started[0][1] == PARENT


def test_a_run_that_could_not_start_is_changed_and_started(started: list[tuple[Any, ...]], place: Path) -> None:
    app = refused(place, data="/gone", epochs=5, workers=2)
    assert "Cannot open '/gone'" in listed(app)
    app.segmented_control(key=key("data_kind")).set_value("Built in").run()
    start_button(healthy(app)).click().run()
    assert started[0][1] == configured("quick", "built-in", epochs=5, workers=2)


def test_a_branch_that_could_not_start_is_a_branch_again(parent: str, place: Path) -> None:
    run = place / "runs" / "20260102-000000-branch"
    run.mkdir()
    origin = str(place / "runs" / parent / "checkpoints" / "last.pt")
    asked = launch.Request({"epochs": 1, "mirror": False}, origin)
    (run / "request.json").write_text(json.dumps(dataclasses.asdict(asked)))
    app = arriving(f"again:{run.name}")
    assert app.title[0].value == f"Branch of {parent}"
    assert app.text_input(key=key("epochs")).value == "1"
    assert app.selectbox(key=key("mirror")).value == "no"


# --- measuring -------------------------------------------------------------------------------------------------------

_SPEED = {
    "steps_timed": 20, "images_per_second": 321.0, "network_alone": 400.0, "reading_alone": 900.0,
    "waited_share": 0.05, "bottleneck": "the network sets the pace", "compile_seconds": 1.0, "start_seconds": 5.0,
    "step_seconds": 0.2, "validation_seconds": 3.0, "checkpoint_seconds": 0.1, "checkpoint_bytes": 1000,
    "probe_seconds": 0.1, "layers_seconds": 0.1, "epoch_seconds": 14.0, "total_seconds": 840.0, "peak_bytes": 3 << 30,
}  # fmt: skip


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Stands for `python -m alexnet plan`: a process that says these lines, then waits for a file."""
    how: dict[str, Any] = {"commands": [], "plan": {"problems": [], "notes": ["a note"], "speed": _SPEED}, "first": ""}
    real = subprocess.Popen

    def popen(command: list[str], **kwargs: Any) -> Any:
        how["commands"].append(command)
        last = json.dumps(how["plan"]) if isinstance(how["plan"], dict) else how["plan"]
        doing = json.dumps({"what": "timing steps", "done": 3, "total": 20})
        code = (
            f"import os, sys, time\nprint({doing!r}, flush=True)\n"
            f"while {how['first']!r} and not os.path.exists({how['first']!r}): time.sleep(0.02)\n"
            f"print({last!r}, flush=True)\nprint('MemoryError: no room', file=sys.stderr)"
        )
        return real([sys.executable, "-c", code], **kwargs)

    monkeypatch.setattr(start_measure.subprocess, "Popen", popen)
    return how


def measured(app: AppTest) -> AppTest:
    """Presses the button, and waits until the page knows the answer."""
    app.button(key="start_measure").click()
    deadline = time.monotonic() + 30
    while not [button for button in healthy(app.run()).button if button.label == "Measure again"]:
        assert time.monotonic() < deadline
    return app


def test_a_measurement_says_time_speed_and_memory(measuring: dict[str, Any]) -> None:
    app = measured(say(opened(), epochs="4"))
    shown = metrics(app)
    assert (shown["Time in all"], shown["Images/s"], shown["Memory measured"]) == ("14 min", "321", "3.0 GiB")
    assert "Measured 1 s ago" in captions(app)
    assert "A note" in app.info[-1].value
    (command,) = measuring["commands"]
    assert command[1:] == [
        *("-m", "alexnet", "plan", "built-in", "--preset", "quick", "--epochs", "4", "--json", "--progress")
    ]
    say(app, name="another name")
    assert "Time in all" in metrics(app)  # what is no value of the recipe changes nothing
    say(app, epochs="5")
    assert "Time in all" not in metrics(app)


def test_a_branch_takes_as_long_as_its_own_steps(measuring: dict[str, Any], parent: str) -> None:
    measuring["plan"]["steps"] = 248
    app = measured(say(arriving(f"branch:{parent}/last"), epochs="4"))
    shown = metrics(app)
    # of 248 steps 62 are done: 5 s at the start and three quarters of 835 s
    assert start_measure.seconds_left(measuring["plan"], 62) == pytest.approx(5 + 0.75 * 835)
    assert shown["Time for the branch"] == "11 min"
    assert "Time in all" not in shown
    assert start_measure.seconds_left(measuring["plan"], 0) == 840.0


def test_a_measurement_shows_how_far_it_is_and_can_be_cancelled(measuring: dict[str, Any], place: Path) -> None:
    measuring["first"] = str(place / "never")
    app = opened()
    app.button(key="start_measure").click()
    deadline = time.monotonic() + 30
    while not any("Timing steps, 3 of 20" in bar.text for bar in healthy(app.run()).get("progress") if bar.text):
        assert time.monotonic() < deadline
    app.button(key="start_measure_cancel").click()
    while not any("Cancelled." in info.value for info in healthy(app.run()).info):
        assert time.monotonic() < deadline
    assert start_measure._running == []


def test_one_measures_at_a_time(measuring: dict[str, Any], place: Path) -> None:
    measuring["first"] = str(place / "go")
    first, second = opened(), say(opened(), epochs="2")
    for app in (first, second):
        app.button(key="start_measure").click()
        healthy(app.run())
        healthy(app.run())
    assert len(measuring["commands"]) == 1
    (place / "go").touch()
    deadline = time.monotonic() + 30
    while "Time in all" not in metrics(healthy(second.run())):
        assert time.monotonic() < deadline
        healthy(first.run())
    assert len(measuring["commands"]) == 2


def test_other_values_end_a_measurement(measuring: dict[str, Any], place: Path) -> None:
    measuring["first"] = str(place / "never")
    app = opened()
    app.button(key="start_measure").click()
    healthy(app.run())
    healthy(app.run())
    (process,) = (measured.process for measured in start_measure._running)
    assert process is not None
    say(app, epochs="2")
    process.wait(20)
    assert "start_measured" not in app.session_state


def test_what_a_measurement_finds_stands_in_the_way(measuring: dict[str, Any]) -> None:
    measuring["plan"] = {"problems": ["the loss is not finite at step 3: start with a smaller --learning-rate"]}
    app = measured(opened())
    assert "the loss is not finite at step 3" in listed(app).lower()
    assert start_button(app).disabled
    assert not app.button(key="start_measure").disabled


def test_a_measurement_without_an_answer_is_said(measuring: dict[str, Any]) -> None:
    measuring["plan"] = "no json"
    app = measured(opened())
    assert app.error[0].value.replace("\\", "") == "Nothing could be measured: MemoryError: no room."
    assert not start_button(app).disabled
