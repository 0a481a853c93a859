from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.zoo import NETWORKS

ROOT = Path(__file__).parents[2]
FORMATS = ["text", "markdown", "csv", "json", "latex"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "analysis", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def output(*arguments: str) -> str:
    """What a command that must succeed, without a word on stderr, prints."""
    done = run(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# --- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        (("networks",), 138_357_544),
        (("table", "alexnet-2012"), 724_406_816),
        (("table", "vgg16@64", "--batch", "3", "--convention", "torchinfo"), None),
        (("compare", "alexnet-2012", "alexnet-one-tower"), 1_135_256_096 - 724_406_816),
        (("compare", "vgg-a", "vgg-b", "vgg-d"), 11_308_466_176),
    ],
)
def test_every_verb_writes_every_format(arguments: tuple[str, ...], number: int | None, fmt: str) -> None:
    text = output(*arguments, "--format", fmt)
    # Comparisons for programs have every stage of every network, and neither totals of their own nor differences.
    if number is not None and not (fmt in {"json", "csv"} and arguments[0] == "compare"):
        assert (f"{number}" if fmt in {"csv", "json"} else f"{number:,}") in text
    if fmt == "json":
        json.loads(text)


def test_text_is_the_default() -> None:
    assert output("networks") == output("networks", "--format", "text")


def test_the_networks_with_their_totals() -> None:
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(output("networks", "--format", "csv")))}
    assert list(rows) == list(NETWORKS)
    assert (rows["alexnet-owt"]["params"], rows["alexnet-owt"]["macs"]) == ("61100840", "714188480")


def test_the_table_of_alexnet_as_json() -> None:
    value = json.loads(output("table", "alexnet-2012", "--format", "json"))
    assert (value["network"], value["input"], value["convention"]) == ("alexnet-2012", [3, 227, 227], "ours")
    assert (value["totals"]["params"], value["totals"]["macs"]) == (60_965_224, 724_406_816)
    assert (value["stages"][0]["name"], value["stages"][0]["macs"]) == ("conv1", 105_415_200)


@pytest.mark.parametrize(
    ("convention", "macs"), [("netscope", 726_791_936), ("torch", 1_448_813_632), ("ptflops", 729_346_320)]
)
def test_a_convention_prints_the_tools_figures(convention: str, macs: int) -> None:
    value = json.loads(output("table", "alexnet-2012", "--convention", convention, "--format", "json"))
    assert value["totals"]["macs"] == macs


def test_options_change_input_classes_width_and_batch() -> None:
    options = ("--input", "3x99x99", "--classes", "10", "--hidden", "64", "--batch", "128")
    value = json.loads(run("table", "alexnet-half", *options, "--format", "json").stdout)
    stages = {stage["name"]: stage for stage in value["stages"]}
    assert (value["input"], value["batch"]) == ([3, 99, 99], 128)
    assert (stages["fc7"]["output_shape"], stages["fc8"]["output_shape"]) == ([64], [10])
    assert stages["fc8"]["macs"] == 64 * 10 * 128


@pytest.mark.parametrize("shape", ["3x96x96", "3X96X96", "3×96×96"])
def test_an_input_can_be_written_with_any_cross(shape: str) -> None:
    assert json.loads(output("table", "vgg16", "--input", shape, "--format", "json"))["input"] == [3, 96, 96]


def test_a_note_on_the_input_size_goes_to_stderr_and_leaves_the_table_clean() -> None:
    done = run("table", "alexnet-2012@224", "--format", "csv")
    assert done.returncode == 0
    assert "224 gives 54, not 55" in done.stderr
    assert all(line.startswith("note: ") for line in done.stderr.splitlines())
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert (rows[0]["name"], rows[0]["output"], rows[-1]["name"]) == ("conv1", "96×54×54", "total")


def test_compare_as_json_has_every_network_whole() -> None:
    value = json.loads(output("compare", "vgg-a-lrn", "vgg-a-lrn:no-lrn", "--format", "json"))
    assert [network["network"] for network in value["networks"]] == ["vgg-a-lrn", "vgg-a-lrn:no-lrn"]
    assert [len(network["stages"]) for network in value["networks"]] == [31, 30]


def test_compare_in_text_has_totals_parameters_and_macs() -> None:
    text = output("compare", "alexnet-2012", "alexnet-one-tower")
    assert [line for line in text.splitlines() if line in {"Totals", "Parameters by stage", "MACs by stage"}] == [
        "Totals",
        "Parameters by stage",
        "MACs by stage",
    ]


def test_verify_says_that_all_witnesses_agree() -> None:
    text = output("verify", "alexnet-2012@67", "vgg-a@32", "--classes", "10", "--hidden", "16")
    assert [line for line in text.splitlines() if not line.startswith("    ")] == [
        "agree     alexnet-2012@67, input 3×67×67",
        "agree     vgg-a@32, input 3×32×32",
    ]
    for witness in ("torchinfo", "FlopCounterMode", "fvcore"):
        assert witness in text


def test_verify_as_json() -> None:
    (value,) = json.loads(output("verify", "alexnet-slim", "--hidden", "8", "--format", "json"))
    assert (value["network"], value["agrees"], value["mismatches"]) == ("alexnet-slim", True, [])


@pytest.mark.parametrize("verb", [(), ("networks",), ("table",), ("compare",), ("verify",)])
def test_help(verb: tuple[str, ...]) -> None:
    assert output(*verb, "--help").startswith(" ".join(["usage: python -m analysis", *verb]))


# --- what does not ----------------------------------------------------------------------------------------------------

MISTAKES = {
    "unknown network": (("table", "alexnet-2013"), "no network named 'alexnet-2013'; did you mean alexnet-2012?"),
    "unknown network to compare": (("compare", "vgg-a", "vgg-f"), "no network named 'vgg-f'; did you mean vgg-"),
    "unknown network to verify": (("verify", "cafenet"), "did you mean caffenet?"),
    "size 0": (("table", "vgg-a", "--input", "3x0x0"), "must be from 1 to 1,024 pixels, got 0×0"),
    "negative size": (("table", "vgg-a", "--input", "3x-5x-5"), "must be from 1 to 1,024 pixels, got -5×-5"),
    "size 10": (("table", "alexnet-2012", "--input", "3x10x10"), "smallest square input that works is 67×67"),
    "size a million": (("table", "vgg-a", "--input", "3x1000000x1000000"), "got 1000000×1000000"),
    "size 10 after @": (("table", "alexnet-2012@10"), "conv1 received 3×10×10"),
    "size a million after @": (("table", "vgg-a@1000000"), "must be from 1 to 1,024 pixels"),
    "no size after @": (("table", "vgg-a@big"), "after @ comes a side in pixels"),
    "a size of 5000 digits after @": (("table", f"vgg-a@{'9' * 5000}"), "vgg-a"),
    "unknown change": (("compare", "vgg-a:lrn"), "after : comes no-lrn"),
    "one channel": (("table", "vgg-a", "--input", "1x224x224"), "takes 3 channels (red, green, blue), got 1"),
    "channels last": (("table", "vgg-a", "--input", "224x224x3"), "write 3×224×3"),
    "four numbers": (("table", "vgg-a", "--input", "1x3x224x224"), "expected channels, height and width"),
    "two sizes": (("table", "vgg-a@64", "--input", "3x32x32"), "both give an input size"),
    "no numbers": (("table", "vgg-a", "--input", "wide"), "or a side like 227; got 'wide'"),
    "a size of 5000 digits": (
        ("table", "vgg-a", "--input", f"3x{'9' * 5000}x1"),
        "expected channels, height and width",
    ),
    "no classes": (("table", "vgg-a", "--classes", "0"), "number of classes must be from 1 to 100,000, got 0"),
    "half a class": (("table", "vgg-a", "--classes", "1.5"), "expected a whole number, got '1.5'"),
    "odd width for two towers": (("table", "alexnet-2012", "--hidden", "4097"), "try 4,098"),
    "endless width": (("table", "vgg-a", "--hidden", "1000000"), "from 1 to 16,384, got 1,000,000"),
    "batch 0": (("table", "vgg-a", "--batch", "0"), "expected a whole number from 1 to 65,536, got '0'"),
    "a million images": (("table", "vgg-a", "--batch", "1000000"), "expected a whole number from 1 to 65,536, got"),
    "batch in words": (("table", "vgg-a", "--batch", "many"), "expected a whole number, got 'many'"),
    "a batch of 4295 digits": (("table", "vgg-a", "--batch", "9" * 4295), "4,295 characters"),
    "as many classes as digits": (("table", "vgg-a", "--classes", "9" * 4295), "expected a whole number"),
    "unknown format": (("table", "vgg-a", "--format", "html"), "invalid choice: 'html'"),
    "unknown convention": (("table", "vgg-a", "--convention", "fcore"), "did you mean fvcore?"),
    "no network": (("table",), "the following arguments are required: NETWORK"),
    "no verb": ((), "the following arguments are required: VERB"),
    "unknown verb": (("tabel",), "invalid choice: 'tabel'"),
    "unknown option": (("table", "vgg-a", "--epochs", "3"), "unrecognized arguments: --epochs 3"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_on_stderr_and_status_2(mistake: str) -> None:
    arguments, words = MISTAKES[mistake]
    done = run(*arguments)
    assert "Traceback" not in done.stderr
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("python -m analysis")
    assert done.stderr.endswith("\n")
    assert words in done.stderr


def test_a_mistake_in_the_second_network_prints_nothing_of_the_first() -> None:
    done = run("verify", "alexnet-2012", "vgg-a@10")
    assert (done.returncode, done.stdout) == (2, "")
    assert "smallest square input that works is 32×32" in done.stderr


@pytest.mark.parametrize(
    "arguments", [("compare", *NETWORKS), ("table", "vgg-a"), ("networks", "--format", "csv")], ids=lambda verb: verb[0]
)
def test_a_reader_that_stops_listening_is_no_error(arguments: tuple[str, ...]) -> None:
    # `head` closes the pipe early; here it is closed before the first line is written.
    with subprocess.Popen(
        [sys.executable, "-m", "analysis", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Buffered, as in a user's shell: short tables are written when the program ends.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaints = process.stderr.read()
    assert (process.returncode, complaints) == (0, "")


# --- start-up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["table", "alexnet-2012"], ["networks"], ["compare", "vgg-a", "vgg-b"]])
def test_tables_are_printed_without_torch(arguments: list[str]) -> None:
    code = f"import sys; from analysis.__main__ import main; main({arguments!r}); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_mistyped_network_to_verify_is_reported_before_torch_is_loaded() -> None:
    code = (
        "import sys; from analysis.__main__ import main;"
        "assert main(['verify', 'cafenet']) == 2; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0


def test_an_encoding_without_the_signs_is_no_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "table", "vgg-a"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert "3×224×224" in done.stdout.decode("utf-8")


def test_comparison_for_programs_is_one_table() -> None:
    rows = list(csv.DictReader(io.StringIO(output("compare", "alexnet-2012", "vgg-a", "--format", "csv"))))
    assert {row["network"] for row in rows} == {"alexnet-2012", "vgg-a"}
    assert sum(int(row["macs"]) for row in rows if row["network"] == "vgg-a") == 7_609_090_048


def test_a_side_is_enough_for_a_square_input() -> None:
    assert output("table", "vgg-a", "--input", "64") == output("table", "vgg-a", "--input", "3x64x64")


def test_an_output_that_cannot_be_written_is_one_line() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "analysis", "table", "vgg-a"],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "python -m analysis table: the output could not be written: No space left on device\n"
