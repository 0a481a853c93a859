"""Every command that README prints is run, as printed but for the names in capitals and what would take long.

A command that README gains must find its place in `WAYS`, or its test fails.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from alexnet import options as alexnet_options
from alexnet.data import generated
from alexnet.runs import RunDirectory
from analysis import __main__ as analysis_line
from tests import training
from tests.made_run import made_run
from tests.serving import chromium
from tests.training import ROOT, command, folder_of_pictures, options, train
from tests.training import TINY as SMALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

README = (ROOT / "README.md").read_text(encoding="utf-8")
_RECIPE = {"optimiser", "initialisation", "mean", "learning-rate"}
TINY = " ".join(f"--{name} {value}" for name, value in SMALL.items() if name not in _RECIPE) + " --max-steps 2"
"""What makes any training one of two steps of a tiny network.  It overrules what is printed, but not the recipe."""
STEPS = 6  # of the finished run


# --- what README prints -----------------------------------------------------------------------------------------------

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`|<code>([^<]+)</code>")
_COMMAND = re.compile(
    r"(\.venv/bin/)?python3? -m |torchrun |streamlit |alexnet |analysis |(train|plan|evaluate|ablate) "
)


def fenced(text: str) -> list[str]:
    """The commands in blocks: lines that go on after a backslash, or are indented, joined; comments left out."""
    found = []
    for language, body in _FENCE.findall(text):
        assert language in {"", "sh"}, f"a block of {language!r}: say here how its commands are run"
        joined = re.sub(r"\s*\\?\n\s+", " ", body)
        found += [re.sub(r"\s+# .*", "", line).strip() for line in joined.splitlines()]
    return list(filter(None, found))


def inline(text: str) -> list[str]:
    """What stands as code in a sentence or a table."""
    return [one or other for one, other in _CODE.findall(_FENCE.sub("", text))]


def commands(text: str) -> list[str]:
    """Every command, once."""
    return list(dict.fromkeys([*fenced(text), *(code for code in inline(text) if _COMMAND.match(code))]))


PRINTED = commands(README)


# --- how each is run --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How a command is run in a test.

    `extra` is added to what is printed, and words of `instead` replaced, as are the capitals that `Places` knows.
    Usages, with their brackets, have `lines` instead: what they run is the command's start with each of them, and every
    option of the usage must be in one.  `makes` are files that must be there afterwards.  The generated pictures are
    4,000, which takes 20 seconds to look through: `few_generated` makes them fewer.
    """

    extra: str = ""
    instead: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    few_generated: bool = False
    slow: bool = False


@dataclass(frozen=True)
class Elsewhere:
    """A command that another test runs, or another program: which, and a text in that file that shows it."""

    file: str
    text: str


NEW_RUN = f"{TINY} --run-dir NEW/run"
LAST = "NEW/run/checkpoints/last.pt"

ABLATED = Way(
    f"{TINY} --seeds 1 --max-steps 1 --only baseline,tanh --out NEW/ablation", makes=("NEW/ablation/results.md",)
)
"""Behind the printed options those of TINY, of which the last counts."""

WAYS: dict[str, Way | Elsewhere] = {
    # Installing: in a fresh copy, by the test of the first minute (slow) and by what checks every change.
    "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && "
    ".venv/bin/python -m streamlit run app/main.py": Elsewhere("tests/browser/test_first.py", "README_S_FIRST"),
    "python3 -m venv .venv && .venv/bin/pip install -r requirements-dev.txt && .venv/bin/python -m pytest": (
        Elsewhere(".ci/run", "grep -E '^python3 -m venv .*-m pytest' README.md")
    ),
    # Counting.
    ".venv/bin/python -m analysis verify": Way("alexnet-2012@67"),
    "python -m analysis table alexnet-2012 --format markdown": Way(),
    "python -m analysis networks": Way(),
    "python -m analysis table NETWORK [--input CxHxW] [--classes N] [--hidden N] [--batch N] [--convention NAME] "
    "[--format F]": Way(
        lines=(
            "alexnet-2012 --input 3x131x131 --classes 10 --hidden 512 --batch 2 --convention torchinfo --format text",
            "alexnet-2012@224:no-lrn:tanh --format latex",
            *(f"vgg-a --convention {name}" for name in ("ours", "fvcore", "ptflops", "ptflops-aten", "torch")),
            "alexnet-2012:no-overlap --convention netscope --format csv",
        )
    ),
    "python -m analysis compare NETWORK NETWORK … [--format F]": Way(
        lines=("alexnet-2012 alexnet-one-tower vgg-a --format json",)
    ),
    "python -m analysis verify [NETWORK …]": Way(lines=("alexnet-2012@67 alexnet-2012@67:tanh",)),
    # Looking inside.
    "python -m analysis kernels CHECKPOINT -o OUT.png [--layer conv1]": Way(
        lines=("CHECKPOINT -o NEW/out.png --layer conv1",), makes=("NEW/out.png",)
    ),
    "python -m analysis activations CHECKPOINT IMAGE -o DIR": Way(instead={"DIR": "NEW/maps"}, makes=("NEW/maps",)),
    "python -m analysis ablation DIR": Way(instead={"DIR": "ABLATION"}),
    "python -m analysis card BUNDLE": Way(makes=("BUNDLE/MODEL_CARD.md",)),
    # Training.
    ".venv/bin/python -m alexnet train built-in --preset minutes": Way(NEW_RUN, makes=(LAST,), few_generated=True),
    ".venv/bin/python -m alexnet pack FOLDER PACK --side 148": Way(
        instead={"PACK": "NEW/pack"}, makes=("NEW/pack/pack.json",)
    ),
    ".venv/bin/python -m alexnet plan PACK --preset quick": Way(f"{TINY} --steps 1"),
    ".venv/bin/python -m alexnet train PACK --preset quick": Way(NEW_RUN, makes=(LAST,)),
    ".venv/bin/python -m alexnet evaluate RUN PACK --ten-crop": Way(),
    "python -m alexnet presets": Way(),
    "python -m alexnet train --help": Way(),
    "train --resume RUN": Way(instead={"RUN": "STOPPED"}),
    "train --branch CHECKPOINT --epochs 120": Way(f"--max-steps {STEPS + 2} --run-dir NEW/run", makes=(LAST,)),
    ".venv/bin/python -m alexnet pack IMAGENET PACK": Way(
        "--side 80", instead={"PACK": "NEW/pack"}, makes=("NEW/pack/pack.json",)
    ),
    ".venv/bin/python -m alexnet train PACK --run-dir RUN": Way(TINY, instead={"RUN": "NEW/run"}, makes=(LAST,)),
    ".venv/bin/python -m alexnet train PACK --device cuda:0,cuda:1": Way(
        NEW_RUN, instead={"cuda:0,cuda:1": "cpu,cpu"}, makes=(LAST,)
    ),
    ".venv/bin/python -m alexnet train --resume RUN": Way(instead={"RUN": "STOPPED"}),
    "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint FIRST:29400 -m alexnet train PACK "
    "--preset modern --batch 1024 --learning-rate 0.08 --run-dir RUN": Way(
        TINY, instead={"RUN": "NEW/run"}, makes=(LAST,)
    ),
    ".venv/bin/python -m alexnet ablate PACK --preset quick --seeds 3": ABLATED,
    ".venv/bin/python -m alexnet pack IMAGENETTE PACK --side 112": Way(
        instead={"PACK": "NEW/pack"}, makes=("NEW/pack/pack.json",)
    ),
    ".venv/bin/python -m alexnet ablate PACK --preset quick --network alexnet-2012@99 --epochs 12 --learning-rate 0.01 "
    "--initialisation source --no-unit-variance --threads 1 --seeds 3 --only baseline,no-lrn,no-overlap": ABLATED,
    ".venv/bin/python -m alexnet ablate PACK --preset quick --network alexnet-2012@99 --dropout 0.0 --epochs 10 "
    "--learning-rate 0.01 --weight-decay 0.0 --schedule constant --warmup-epochs 0.0 --label-smoothing 0.0 "
    "--no-random-crop --no-mirror --colour-noise 0.0 --threads 1 --seeds 3 --only baseline,tanh --rate tanh=0.005": (
        ABLATED
    ),
    "python -m alexnet train DATA [--preset NAME] [--run-dir DIR] [--queue] …": Way(
        lines=(f"PACK --preset minutes --queue {NEW_RUN}",), makes=(LAST,)
    ),
    "python -m alexnet plan DATA [as for train]": Way(lines=(f"FOLDER {TINY} --steps 1",)),
    "python -m alexnet ablate DATA [--out DIR] [--seeds N] [--only VARIANT,…] [--rate VARIANT=RATE] "
    "[as for train]": Way(
        lines=(f"FOLDER {TINY} --max-steps 1 --seeds 1 --only no-lrn --rate no-lrn=0.01 --out NEW/ablation",),
        makes=("NEW/ablation/results.json",),
    ),
    # Runs and checkpoints.
    "python -m alexnet evaluate CHECKPOINT DATA [--all] [--ten-crop] [--sides S,S,…] [--json]": Way(
        lines=("CHECKPOINT FOLDER --all --sides 76,80 --json", "CHECKPOINT FOLDER --ten-crop")
    ),
    "python -m alexnet inspect FILE": Way(instead={"FILE": "CHECKPOINT"}),
    "python -m alexnet convert FILE OUT.safetensors": Way(
        instead={"FILE": "CHECKPOINT", "OUT.safetensors": "NEW/out.safetensors"}, makes=("NEW/out.safetensors",)
    ),
    "python -m alexnet bundle RUN OUT [--data DATA] [--checkpoint best|last] [--moments N] [--note TEXT]": Way(
        lines=("FILMED NEW/bundle --data FOLDER --checkpoint last --moments 60 --note short",),
        makes=("NEW/bundle/MODEL_CARD.md", "NEW/bundle/weights.safetensors"),
    ),
    "python -m alexnet bundle RUN OUT": Way(
        "--data FOLDER --moments 60",
        instead={"RUN": "FILMED", "OUT": "NEW/bundle"},
        makes=("NEW/bundle/MODEL_CARD.md",),
    ),
    "python -m alexnet pack DATA OUT [--side N]": Way(
        lines=("FOLDER NEW/pack --side 76",), makes=("NEW/pack/pack.json",)
    ),
    "python -m alexnet export RUN OUT.zip": Way(instead={"OUT.zip": "NEW/run.zip"}, makes=("NEW/run.zip",)),
    "python -m alexnet import FILE": Way(
        "--runs NEW/runs --name taken-in", instead={"FILE": "ZIP"}, makes=("NEW/runs/taken-in/config.json",)
    ),
    # Measuring: whole, and so only with -m slow; that they can be started is tested always.
    "python -m tests.benchmarks.lrn": Way(slow=True),
    "python -m tests.benchmarks.step": Way("2", slow=True),
    "python -m tests.benchmarks.reading FOLDER": Way("16", slow=True),
    "python -m tests.benchmarks.looking": Way("1", slow=True),
    "python -m tests.benchmarks.tables": Way(slow=True),
    "python -m tests.benchmarks.pages": Way("1", slow=True),
    "python -m tests.pictures": Elsewhere("tests/unit/test_readme.py", "pictures.strip(pictures.FILMED)"),
    "python -m pytest -m long": Elsewhere(".ci/run", ".venv/bin/python -m pytest -m long"),
    "python -m pytest -m slow": Elsewhere("pyproject.toml", '"slow: takes minutes; run with -m slow"'),
}


class Places:
    """Stand-ins for README's capitals, each made when the first command asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commands = 0

    def filled(self, text: str, new: str) -> list[str]:
        """The words of a command, its capitals replaced; NEW is the folder `new` of this command alone."""
        found = []
        for word in shlex.split(text):
            head, slash, rest = word.partition("/")
            found.append(f"{new if head == 'NEW' else self._named(head)}{slash}{rest}")
        return found

    def _named(self, word: str) -> str:
        known = {
            "FOLDER": "pictures", "IMAGENET": "pictures", "IMAGENETTE": "pictures", "PACK": "pack",
            "IMAGE": "image", "RUN": "run", "FILMED": "filmed", "STOPPED": "stopped", "CHECKPOINT": "checkpoint",
            "ZIP": "zipped", "ABLATION": "ablation", "BUNDLE": "bundle",
        }  # fmt: skip
        if word in known:
            return str(getattr(self, known[word]))
        assert not re.fullmatch(r"[A-Z]{3,}", word), f"nothing stands in for {word}"
        return word

    def new(self) -> Path:
        """An empty folder for what one command writes."""
        self._commands += 1
        path = self._folder / f"new-{self._commands}"
        path.mkdir()
        return path

    @cached_property
    def pictures(self) -> Path:
        return folder_of_pictures(self._folder / "pictures", per_class=8)

    @cached_property
    def pack(self) -> Path:
        done = command("pack", self.pictures, self._folder / "pack", "--side", 80)
        assert done.returncode == 0, done.stderr
        return self._folder / "pack"

    @cached_property
    def run(self) -> Path:
        """A finished run."""
        done = train(self.pictures, "--run-dir", self._folder / "run", *options(max_steps=STEPS, keep_every=1))
        assert done.returncode == 0, done.stderr
        return self._folder / "run"

    @cached_property
    def filmed(self) -> Path:
        """A run whose film has so many moments that it can be shipped: that one's weights, and records made up."""
        moments = 70
        config = RunDirectory(self.run).config()["config"]
        made = made_run(self._folder / "filmed", steps=moments, moments=tuple(range(moments + 1)), config=config)
        shutil.copytree(self.run / "checkpoints", made.path / "checkpoints")
        return made.path

    @property
    def stopped(self) -> Path:
        """A run that lost its power after three of its steps; another copy each time."""
        path = self.new() / "run"
        shutil.copytree(self.run, path)
        run = RunDirectory.open(path)
        shutil.copy(run.last.with_name("step-000000003.pt"), run.last)
        run.write_status(run.status() | {"state": "running", "step": 3})
        return path

    @property
    def checkpoint(self) -> Path:
        return RunDirectory(self.run).last

    @property
    def image(self) -> Path:
        return self.pictures / "val" / "class0" / "000.png"

    @cached_property
    def zipped(self) -> Path:
        done = command("export", self.run, self._folder / "run.zip")
        assert done.returncode == 0, done.stderr
        return self._folder / "run.zip"

    @cached_property
    def ablation(self) -> Path:
        recipe = options(max_steps=1, probes=2)
        out = self._folder / "ablation"
        done = command("ablate", self.pictures, "--only", "baseline", "--seeds", 1, "--out", out, *recipe)
        assert done.returncode == 0, done.stderr
        return out

    @cached_property
    def bundle(self) -> Path:
        """A copy of one in the box, without its card."""
        out = self._folder / "bundle"
        out.mkdir()
        for name in ("config.json", "results.json", "status.json"):
            shutil.copy(ROOT / "alexnet" / "trained" / "generated" / name, out)
        return out


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("readme"))


# --- running ----------------------------------------------------------------------------------------------------------


def run(words: list[str]) -> str:
    """Runs a command of README with stand-ins in it, to a good end; what it printed."""
    program, arguments = started(words)
    if program == "alexnet":
        done = command(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout
    if program == "analysis":  # in this process: to load torch in another takes longer than what it does
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert analysis_line.main(arguments) == 0
        return printed.getvalue()
    module = "torch.distributed.run" if program == "torchrun" else program
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def started(words: list[str]) -> tuple[str, list[str]]:
    """The program that a command starts, and its arguments."""
    if words[0] == "torchrun":
        return "torchrun", words[1:]
    if words[0].endswith("python"):
        assert words[1] == "-m"
        return words[2], words[3:]
    return "alexnet", words  # a sentence leaves the beginning out: `train --resume RUN`


def on_one_machine(text: str) -> str:
    """A command for torchrun with two processes here in place of several machines; its own options are checked."""
    from torch.distributed.run import get_args_parser

    launched, ours = text.removeprefix("torchrun ").split(" -m ")
    asked = get_args_parser().parse_args([*launched.split(), "-m", *ours.split()])
    assert asked.training_script == "alexnet"
    assert asked.nnodes == "2"
    return f"torchrun --standalone --nproc-per-node 2 -m {ours}"


def lines(printed: str, way: Way) -> list[str]:
    """What is run for a command: itself with a few changes, or the lines given for a usage."""
    if way.lines:
        beginning = " ".join(re.split(r"\s(?=[A-Z\[])", printed)[0].split())
        return [f"{beginning} {line}" for line in way.lines]
    assert "[" not in printed, "a usage: say which lines are run for it"
    text = on_one_machine(printed) if printed.startswith("torchrun ") else printed
    words = [way.instead.get(word, word) for word in text.split()]
    return [f"{' '.join(words)} {way.extra}".strip()]


def cases(*, slow: bool) -> list[str]:
    """Commands that take minutes, or the others; those without a way are among these, and fail."""
    return [one for one in PRINTED if getattr(WAYS.get(one), "slow", False) is slow]


def _few_generated(*arguments: Any) -> None:
    """In the new process, before the program: as `tests.training._run`, with fewer pictures."""
    generated.COUNTS.update(train=40, val=10)
    _RUN(*arguments)


_RUN = training._run


def check(printed: str, places: Places) -> None:
    way = WAYS.get(printed)
    assert way is not None, f"README prints a command that no test runs: {printed}\nSay in WAYS how it is run."
    if isinstance(way, Elsewhere):
        assert way.text in (ROOT / way.file).read_text(encoding="utf-8")
        return
    options_printed = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", printed.partition(" -m ")[2] or printed))
    new = places.new()
    run_lines = lines(printed, way)
    with pytest.MonkeyPatch.context() as patch:
        if way.few_generated:
            patch.setattr(training, "_run", _few_generated)
        for line in run_lines:
            assert run(places.filled(line, str(new))).strip() or way.makes
    assert options_printed <= set(" ".join(run_lines).split())
    for made in way.makes:
        (path,) = places.filled(made, str(new))
        assert Path(path).exists(), made


@pytest.mark.parametrize(
    "printed",
    [
        pytest.param(one, marks=pytest.mark.long if one.startswith("torchrun ") else ())  # processes that compile
        for one in cases(slow=False)
    ],
)
def test_it_runs(printed: str, places: Places) -> None:
    check(printed, places)


@pytest.mark.slow
@pytest.mark.parametrize("printed", cases(slow=True))
def test_it_measures(printed: str, places: Places) -> None:
    if ".looking" in printed or ".pages" in printed:
        assert chromium() or os.environ.get("ALEXNET_REQUIRE_BROWSER") is None
        if chromium() is None:
            pytest.skip("no Chromium on this machine; on Debian: apt-get install chromium")
    check(printed, places)


@pytest.mark.parametrize("printed", cases(slow=True))
def test_a_benchmark_can_be_started(printed: str) -> None:
    assert callable(importlib.import_module(printed.split()[2]).main)


# --- that nothing is missed -------------------------------------------------------------------------------------------


def test_no_way_is_left_of_a_command_that_is_gone() -> None:
    assert [printed for printed in WAYS if printed not in PRINTED] == []


def test_commands_are_found_wherever_they_stand() -> None:
    text = """
Say `python -m alexnet no-such-verb`, `train --no-such-option`, <code>torchrun -m x</code>, or `plain.py`:

```sh
.venv/bin/python -m alexnet train PACK \\
    --preset quick   # a comment
```
```
python -m analysis table NETWORK [--one]
                         [--two]
```
"""
    assert commands(text) == [
        ".venv/bin/python -m alexnet train PACK --preset quick",
        "python -m analysis table NETWORK [--one] [--two]",
        "python -m alexnet no-such-verb",
        "train --no-such-option",
        "torchrun -m x",
    ]
    with pytest.raises(AssertionError, match="no test runs: train --no-such-option"):
        check("train --no-such-option", Places(Path()))


def _options(parser: object) -> Iterable[str]:
    for action in parser._actions:  # type: ignore[attr-defined]
        yield from action.option_strings
        for verb in (action.choices or {}).values() if hasattr(action, "add_parser") else ():
            yield from _options(verb)


@pytest.mark.parametrize("code", [code for code in inline(README) if code.startswith("--")])
def test_an_option_in_a_sentence_is_one_of_the_programs(code: str) -> None:
    option, _, value = code.partition(" ")
    assert option in {*_options(alexnet_options.parser()), *_options(analysis_line.parser())}
    if value:
        given = alexnet_options.parser().parse_args(["train", "built-in", *shlex.split(code)])
        assert str(getattr(given, option[2:].replace("-", "_"))) == value
