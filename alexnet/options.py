"""The command line of `python -m alexnet`: its verbs and their options.  Nothing here trains."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

from alexnet import ablation
from alexnet.bundled import FEWEST_MOMENTS, MOMENTS, WHICH
from alexnet.commandline import Parser
from alexnet.config import TrainConfig, option
from alexnet.portable import CHECKPOINTS
from alexnet.presets import PRESETS
from alexnet.runs import RUNS
from alexnet.words import value_text

_TYPES = get_type_hints(TrainConfig)
_GROUPS = {
    "epochs": ("recipe", "Defaults are those of paper-2012; a preset has its own."),
    "side": ("pictures", "From files to the network's input."),
    "validate_every": ("run", "What is done and written on the way."),
    "device": ("machine", "auto takes what is fastest here, and the log says what that was."),
}
"""Where the groups of options begin, in the order of the config's fields."""
_ANY_CHECKPOINT = "a file of ours, torch, safetensors, numpy, Caffe or ONNX, a folder of .npy files, or a run directory"


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m alexnet`."""
    top = Parser(prog="python -m alexnet", description="Train AlexNet and look at what came out.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)
    _add_train(verbs)
    _add_plan(verbs)
    _add_ablate(verbs)
    _add_evaluate(verbs)
    _add_inspect(verbs)
    _add_convert(verbs)
    _add_bundle(verbs)
    _add_pack(verbs)
    _add_export_and_import(verbs)
    verbs.add_parser("presets", help="the recipes, what to expect of them and their commands")
    return top


def _add_train(verbs: argparse._SubParsersAction[Parser]) -> None:
    train = verbs.add_parser(
        "train",
        help="train a network, or go on with a run",
        description="Trains a network. Everything about it lands in one folder, the run directory; stopped in any "
        "way, even by a power cut, it goes on with --resume.",
    )
    train.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="a folder of pictures (train/ and val/, or one folder per class), a CIFAR archive, a pack, or built-in",
    )
    where = train.add_mutually_exclusive_group()
    where.add_argument(
        "--run-dir", type=Path, metavar="DIR", help="a new folder for this run (default: runs/TIME-NAME)"
    )
    where.add_argument("--resume", type=Path, metavar="DIR", help="go on with the run in this folder")
    train.add_argument(
        "--branch",
        type=Path,
        metavar="CHECKPOINT",
        help="a new run that goes on from this checkpoint, or a run's last one, with the values given here changed",
    )
    train.add_argument(
        "--queue", action="store_true", help="wait until no other training runs beside this one, then begin"
    )
    _add_recipe(train)


def _add_plan(verbs: argparse._SubParsersAction[Parser]) -> None:
    plan = verbs.add_parser(
        "plan",
        help="what a training would take, from a few measured steps",
        description="Says everything that is known of a training before it starts: time, memory, disk, what holds it "
        "up, and every problem. Takes the options of train, opens the data, times a few steps and leaves nothing "
        "behind. The exit status is 0 where the training can start, and 2 with a line for each problem where not.",
    )
    plan.add_argument("data", metavar="DATA", help="as for train")
    plan.add_argument("--steps", type=_positive, metavar="N", help="steps to time (default: some seconds' worth)")
    plan.add_argument("--json", action="store_true", help="everything as JSON, problems too")
    plan.add_argument(
        "--progress", action="store_true", help="with --json: JSON by lines, first what is being done, last the result"
    )
    _add_recipe(plan)


def _add_ablate(verbs: argparse._SubParsersAction[Parser]) -> None:
    ablate = verbs.add_parser(
        "ablate",
        help="what LRN, overlapping pooling and ReLU are worth: the same recipe without each, several seeds",
        description="Trains the same recipe as it is (baseline), without LRN, with pooling that does not overlap and "
        "with tanh instead of ReLU, once for each seed, each in a run directory of its own. It can be stopped at any "
        "time: the same command leaves alone what is finished and goes on with the rest. At the end it prints the "
        "table and writes results.json and results.md beside the runs.",
    )
    ablate.add_argument("data", nargs="?", metavar="DATA", help="as for train")
    ablate.add_argument(
        "--out",
        type=Path,
        default=RUNS / "ablation",
        metavar="DIR",
        help=f"the folder of the runs (default: {RUNS}/ablation)",
    )
    ablate.add_argument(
        "--seeds",
        type=_positive,
        default=3,
        metavar="N",
        help="runs of each variant: --seed and those after (default: 3)",
    )
    ablate.add_argument("--only", metavar="VARIANT,…", help=f"not all of {', '.join(ablation.VARIANTS)}")
    ablate.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="VARIANT=RATE",
        help="another learning rate for one variant, as in the paper's figure 1, where each network had its own "
        "(default: --learning-rate for all); can be given several times",
    )
    ablate.add_argument("--table", action="store_true", help="train nothing: the table of what is finished in --out")
    _add_recipe(ablate)


def _add_evaluate(verbs: argparse._SubParsersAction[Parser]) -> None:
    evaluate = verbs.add_parser(
        "evaluate",
        help="top-1, top-5, per class, confusions and mistakes of a checkpoint",
        description="Looks at pictures through a checkpoint, with the preprocessing it was trained with. Data that is "
        "not split into train/ and val/ is split as the checkpoint's training did; --all takes every picture instead, "
        "for a test set or a folder val/ by itself.",
    )
    evaluate.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help=_ANY_CHECKPOINT)
    evaluate.add_argument("data", metavar="DATA", help="as for train; its validation part is looked at")
    evaluate.add_argument("--all", action="store_true", help="every picture, not only those kept for validation")
    evaluate.add_argument("--ten-crop", action="store_true", help="average ten crops (paper, section 4.1)")
    evaluate.add_argument(
        "--sides", type=_sides, default=(), metavar="S,S,…", help="average several short sides (VGG, section 4.2)"
    )
    evaluate.add_argument("--json", action="store_true", help="everything as JSON, confusions and mistakes too")
    evaluate.add_argument("--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda or cuda:1")
    evaluate.add_argument(
        "--precision",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="number format of the products (default: float32)",
    )
    evaluate.add_argument("--batch", type=int, default=64, metavar="N", help="pictures at a time (default: 64)")
    evaluate.add_argument("--workers", type=int, default=0, metavar="N", help="processes that read pictures")


def _add_inspect(verbs: argparse._SubParsersAction[Parser]) -> None:
    inspect = verbs.add_parser(
        "inspect",
        help="what is in a checkpoint, what it fits, every mismatch",
        description="Says what is in a file of weights, whatever wrote it, and which network it fits; nothing in it is "
        "executed. The exit status is 0 also where it fits none, and 2 where it cannot be read.",
    )
    inspect.add_argument("file", metavar="FILE", type=Path, help=_ANY_CHECKPOINT)
    inspect.add_argument("--network", metavar="NAME", help="hold it against this network (default: against all)")
    inspect.add_argument("--json", action="store_true", help="everything as JSON")


def _add_convert(verbs: argparse._SubParsersAction[Parser]) -> None:
    convert = verbs.add_parser(
        "convert",
        help="a checkpoint from anywhere as one of ours, in safetensors",
        description="Writes weights from anywhere with the network, preprocessing and classes that belong to them.",
    )
    convert.add_argument("file", metavar="FILE", type=Path, help=_ANY_CHECKPOINT)
    convert.add_argument("out", metavar="OUT.safetensors", type=Path, help="the file to write")
    convert.add_argument("--network", metavar="NAME", help="the network that the weights belong to, if several fit")
    convert.add_argument("--pixels", metavar="P", help="what the network was shown; a wrong name lists them")
    convert.add_argument("--half", action="store_true", help="store weights as float16, in half the room")
    convert.add_argument("--force", action="store_true", help="write over OUT if it exists")


def _add_bundle(verbs: argparse._SubParsersAction[Parser]) -> None:
    bundle = verbs.add_parser(
        "bundle",
        help="a finished run as what a project ships: float16 weights, the film, records and a model card",
        description="Makes a folder of a finished run: the weights as float16, the run's config, records and moments "
        "without paths of this machine and without photographs, and a model card whose figures are measured on DATA.",
    )
    bundle.add_argument("run", metavar="RUN", type=Path, help="the finished run's folder")
    bundle.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    bundle.add_argument("--data", metavar="DATA", help="the pictures of the training (default: where they were)")
    bundle.add_argument("--checkpoint", choices=WHICH, default="best", help="whose weights are shipped (default: best)")
    bundle.add_argument(
        "--moments",
        type=_positive,
        default=MOMENTS,
        metavar="N",
        help=f"of the film, at least {FEWEST_MOMENTS} (default: {MOMENTS})",
    )
    bundle.add_argument("--note", default="", metavar="TEXT", help="what the card says of narrower layers' cost")
    bundle.add_argument("--force", action="store_true", help="put it in the place of a bundle that is there")


def _add_pack(verbs: argparse._SubParsersAction[Parser]) -> None:
    pack = verbs.add_parser("pack", help="decode and resize pictures once, to read them at memory speed ever after")
    pack.add_argument("data", metavar="DATA", help="as for train")
    pack.add_argument("out", metavar="OUT", type=Path, help="a new folder; packing that was interrupted goes on")
    pack.add_argument("--side", type=int, default=256, metavar="N", help="short side in pixels (default: 256)")
    pack.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    pack.add_argument("--on-unreadable", choices=["skip", "stop"], default="skip")
    pack.add_argument("--val-fraction", type=float, default=0.1, metavar="X", help="share kept for validation")
    pack.add_argument("--seed", type=int, default=0, metavar="N", help="decides which")


def _add_export_and_import(verbs: argparse._SubParsersAction[Parser]) -> None:
    export = verbs.add_parser(
        "export",
        help="a run as one file, to take it elsewhere",
        description="Writes a run, also one that is training, into one .zip file, which import takes in elsewhere. "
        "Without its last checkpoint a run can be looked at, and does not go on.",
    )
    export.add_argument("run", metavar="RUN", type=Path, help="the run's folder")
    export.add_argument("out", metavar="OUT.zip", type=Path, help="the file to write")
    export.add_argument(
        "--checkpoints",
        choices=[choice.replace(" ", "-") for choice in CHECKPOINTS],
        default="last-and-best",
        help="which of them go with it (default: last-and-best)",
    )
    export.add_argument("--no-tensorboard", action="store_true", help="leave events.* out")
    export.add_argument("--force", action="store_true", help="write over OUT if it exists")

    bring = verbs.add_parser(
        "import",
        help="a run that export wrote, as a new folder",
        description="Takes in a run that was exported, here or elsewhere. Nothing in the file is believed or executed, "
        "and no run is written over.",
    )
    bring.add_argument("file", metavar="FILE", type=Path, help="the .zip file that export wrote")
    bring.add_argument(
        "--runs", type=Path, default=RUNS, metavar="DIR", help=f"the folder of runs to put it in (default: {RUNS}/)"
    )
    bring.add_argument("--name", metavar="NAME", help="what its folder is called (default: as it was)")


def _add_recipe(verb: argparse.ArgumentParser) -> None:
    """The preset and every value of the recipe, as options."""
    verb.add_argument(
        "--preset", metavar="NAME", help=f"recipe: {', '.join(p.name for p in PRESETS)} (default: paper-2012)"
    )
    group: argparse._ArgumentGroup = verb.add_argument_group("network")
    for field in dataclasses.fields(TrainConfig):
        if field.name in _GROUPS:
            group = verb.add_argument_group(*_GROUPS[field.name])
        if field.name not in {"data", "preset"}:
            _add_field(group, field)


def _add_field(group: argparse._ArgumentGroup, field: dataclasses.Field[Any]) -> None:
    """A value of the recipe as an option; without a default, so that a preset's value stays where none is given."""
    kind, about = _TYPES[field.name], field.metadata["about"]
    name, choices = option(field.name), get_args(kind)
    if field.default is not None:
        about = f"{about} (default: {value_text(field.default)})"
    about = about.replace("%", "%%")
    if kind is bool:
        group.add_argument(name, action=argparse.BooleanOptionalAction, default=None, help=about)
    elif choices and all(isinstance(choice, str) for choice in choices):
        group.add_argument(name, choices=choices, default=None, help=about)
    else:
        plain = next((choice for choice in choices if choice is not type(None)), kind)
        group.add_argument(
            name, type=plain, default=None, metavar={int: "N", float: "X", str: "TEXT"}[plain], help=about
        )


def _positive(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")


def _sides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected short sides in pixels like 256,384,512, got {text!r}") from None
