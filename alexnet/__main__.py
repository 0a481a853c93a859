"""python -m alexnet VERB: train, evaluate, inspect, convert, pack, presets."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from alexnet.commandline import Parser, status, write_utf8
from alexnet.config import TrainConfig, option
from alexnet.data.imagenet import readable
from alexnet.data.sources import BUILT_IN
from alexnet.errors import UserError
from alexnet.presets import PRESETS, configured
from alexnet.progress import Progress
from alexnet.runs import RUNS, new_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alexnet.evaluate import Evaluation

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
        "--preset", metavar="NAME", help=f"recipe: {', '.join(p.name for p in PRESETS)} (default: paper-2012)"
    )
    group: argparse._ArgumentGroup = train.add_argument_group("network")
    for field in dataclasses.fields(TrainConfig):
        if field.name in _GROUPS:
            group = train.add_argument_group(*_GROUPS[field.name])
        if field.name not in {"data", "preset"}:
            _add_field(group, field)

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

    inspect = verbs.add_parser(
        "inspect",
        help="what is in a checkpoint, what it fits, every mismatch",
        description="Says what is in a file of weights, whatever wrote it, and which network it fits; nothing in it is "
        "executed. The exit status is 0 also where it fits none, and 2 where it cannot be read.",
    )
    inspect.add_argument("file", metavar="FILE", type=Path, help=_ANY_CHECKPOINT)
    inspect.add_argument("--network", metavar="NAME", help="hold it against this network (default: against all)")
    inspect.add_argument("--json", action="store_true", help="everything as JSON")

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

    pack = verbs.add_parser("pack", help="decode and resize pictures once, to read them at memory speed ever after")
    pack.add_argument("data", metavar="DATA", help="as for train")
    pack.add_argument("out", metavar="OUT", type=Path, help="a new folder; packing that was interrupted goes on")
    pack.add_argument("--side", type=int, default=256, metavar="N", help="short side in pixels (default: 256)")
    pack.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    pack.add_argument("--on-unreadable", choices=["skip", "stop"], default="skip")
    pack.add_argument("--val-fraction", type=float, default=0.1, metavar="X", help="share kept for validation")
    pack.add_argument("--seed", type=int, default=0, metavar="N", help="decides which")

    verbs.add_parser("presets", help="the recipes, what to expect of them and their commands")
    return top


def _add_field(group: argparse._ArgumentGroup, field: dataclasses.Field[Any]) -> None:
    """A value of the recipe as an option; without a default, so that a preset's value stays where none is given."""
    kind, about = _TYPES[field.name], field.metadata["about"]
    name, choices = option(field.name), get_args(kind)
    if field.default is not None:
        about = f"{about} (default: {_shown(field.default)})"
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


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected short sides in pixels like 256,384,512, got {text!r}") from None


# --- verbs -----------------------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    changes = {
        field.name: value
        for field in dataclasses.fields(TrainConfig)
        if (value := getattr(options, field.name)) is not None
    }
    for number in (signal.SIGINT, signal.SIGTERM):  # until the training itself listens
        signal.signal(number, _interrupt)
    if options.resume is None:
        preset, data = changes.pop("preset", "paper-2012"), _lasting(changes.pop("data", ""))
        config = configured(preset, data, **changes)
        path = options.run_dir or new_path(RUNS, f"{preset}-{config.network.replace('@', '-').replace(':', '-')}")

    from alexnet import session  # noqa: PLC0415 - torch takes seconds to import; mistakes above need not wait for it
    from alexnet.group import joined_group  # noqa: PLC0415

    progress = Progress("train")
    with joined_group(changes.get("device", "auto")) as group:
        if options.resume is not None:
            if "data" in changes:
                changes["data"] = _lasting(changes["data"])
            training = session.resume(options.resume, changes, group, progress)
        else:
            training = session.begin(config, path, group, progress)
        if group.leads:
            progress.say(f"run directory: {training.run_directory.path}")
        training.run()
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from alexnet.inference import evaluate_checkpoint  # noqa: PLC0415 - as above

    found = evaluate_checkpoint(
        options.checkpoint,
        options.data,
        crops="ten" if options.ten_crop else "centre",
        sides=options.sides,
        device=options.device,
        precision=options.precision,
        batch=options.batch,
        workers=options.workers,
        everything=options.all,
        say=lambda text: print(text, file=sys.stderr),
        seen=Progress("evaluate").show,
    )
    print(json.dumps(found.as_data(), ensure_ascii=False, indent=2) if options.json else _table(found))
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from alexnet.foreign import inspect  # noqa: PLC0415 - as above

    report = inspect(options.file, network=options.network)
    print(json.dumps(report.as_json(), ensure_ascii=False, indent=2) if options.json else report.text())
    return 0


def _convert(options: argparse.Namespace) -> int:
    from alexnet import checkpoints  # noqa: PLC0415
    from alexnet.foreign import open_checkpoint  # noqa: PLC0415

    out: Path = options.out
    if out.suffix != checkpoints.SAFETENSORS:
        raise UserError(f"what is written is safetensors: name it {out.with_suffix(checkpoints.SAFETENSORS).name}")
    if out.exists() and not options.force:
        raise UserError(f"{out} exists: give another name, or --force to write over it")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent} to write {out.name} in")
    checkpoint = open_checkpoint(options.file, network=options.network, pixels=options.pixels)
    checkpoints.save(out, checkpoint, half=options.half)
    for note in checkpoint.notes:
        print(f"note: {note}")
    print(f"{out}: {checkpoint.network.name} from {checkpoint.origin or 'a checkpoint of this project'}")
    return 0


def _lasting(data: str) -> str:
    """A name of the data that means the same from any folder, since a run may be resumed from another."""
    return str(Path(data).resolve()) if data not in {"", BUILT_IN} and Path(data).exists() else data


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _table(found: Evaluation) -> str:
    classes = [readable(name) for name in found.classes]
    width = max(map(len, classes))
    shares = f"top-1 {found.top1:.2%}, top-{found.k} {found.topk:.2%}, loss {found.loss:.4f}"
    lines = [f"{found.pictures:,} pictures, {found.crops}: {shares}"]
    if found.unreadable:
        lines.append(f"{len(found.unreadable)} could not be read, the first: {found.unreadable[0]}")
    lines += ["", f"{'class':<{width}}  pictures  right   most often taken for"]
    for true, (name, row, share) in enumerate(zip(classes, found.confusion, found.per_class, strict=True)):
        others = sorted(((count, other) for other, count in enumerate(row) if other != true and count), reverse=True)
        taken = ", ".join(f"{classes[other]} {count}" for count, other in others[:2])
        lines.append(
            f"{name:<{width}}  {sum(row):>8,}  {'—' if share is None else f'{share:.1%}':>6}  {taken}".rstrip()
        )
    if found.mistakes:
        lines += ["", "mistakes it was surest of"]
        lines += [
            f"{mistake.picture}: {mistake.predicted} at {mistake.probability:.1%}, is {mistake.true} "
            f"at {mistake.probability_of_true:.1%}"
            for mistake in found.mistakes[:10]
        ]
    return "\n".join(lines)


def _pack(options: argparse.Namespace) -> int:
    from alexnet.data.pack import write_pack  # noqa: PLC0415
    from alexnet.data.sources import open_data  # noqa: PLC0415

    splits = open_data(options.data, val_fraction=options.val_fraction, seed=options.seed)
    print(splits.description)
    progress = Progress("pack")
    notes: dict[str, None] = {}
    skipped: dict[str, int] = {}
    for state in write_pack(
        splits, options.out, side=options.side, workers=options.workers, on_unreadable=options.on_unreadable
    ):
        progress.show(state.done, state.total, f"{state.split}, {state.skipped} skipped")
        skipped[state.split] = state.skipped
        if state.note:
            notes.setdefault(state.note)
    progress.close()
    for note in notes:
        print(note)
    if missing := sum(skipped.values()):
        print(f"{missing} unreadable picture{'s' * (missing != 1)} left out; {options.out}/pack.json names them")
    print(f"{options.out} holds pictures of {options.side}×{options.side} pixels; train with a --side of at most that")
    return 0


def _presets(_options: argparse.Namespace) -> int:
    for preset in PRESETS:
        print(f"{preset.name}: {preset.purpose}\n  expect    {preset.expect}\n  hardware  {preset.hardware}")
        print(f"  command   {preset.command}")
        changes = ", ".join(f"{option(name)} {_shown(value)}" for name, value in preset.changes.items())
        print(f"  values    {changes or 'the defaults of train'}\n")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    write_utf8()
    options = parser().parse_args(arguments)
    verbs: dict[str, Callable[[argparse.Namespace], int]] = {
        "train": _train,
        "evaluate": _evaluate,
        "inspect": _inspect,
        "convert": _convert,
        "pack": _pack,
        "presets": _presets,
    }
    return status(f"python -m alexnet {options.verb}", lambda: verbs[options.verb](options), (UserError,))


if __name__ == "__main__":
    sys.exit(main())
