"""python -m alexnet VERB: train, plan, ablate, evaluate, inspect, convert, bundle, pack, export, import, presets."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from alexnet import ablation, portable
from alexnet.bundled import CARD
from alexnet.commandline import Parser, status, write_utf8
from alexnet.config import RESUMABLE, TrainConfig, option
from alexnet.data.imagenet import readable
from alexnet.data.sources import BUILT_IN
from alexnet.errors import UserError
from alexnet.launch import branch_stem, claimed, environment, folder_name, taken
from alexnet.portable import CHECKPOINTS
from alexnet.presets import PRESETS, configured
from alexnet.progress import Progress
from alexnet.runs import RUNS, RunDirectory, new_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from alexnet.evaluate import Evaluation
    from alexnet.rehearsal import Doing

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
        "--branch",
        type=Path,
        metavar="CHECKPOINT",
        help="a new run that goes on from this checkpoint, or a run's last one, with the values given here changed",
    )
    train.add_argument(
        "--queue", action="store_true", help="wait until no other training runs beside this one, then begin"
    )
    _add_recipe(train)

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

    _add_ablate(verbs)

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

    _add_bundle(verbs)
    _add_pack(verbs)
    _add_export_and_import(verbs)
    verbs.add_parser("presets", help="the recipes, what to expect of them and their commands")
    return top


def _add_pack(verbs: argparse._SubParsersAction[Parser]) -> None:
    pack = verbs.add_parser("pack", help="decode and resize pictures once, to read them at memory speed ever after")
    pack.add_argument("data", metavar="DATA", help="as for train")
    pack.add_argument("out", metavar="OUT", type=Path, help="a new folder; packing that was interrupted goes on")
    pack.add_argument("--side", type=int, default=256, metavar="N", help="short side in pixels (default: 256)")
    pack.add_argument("--workers", type=int, metavar="N", help="processes (default: one for each core)")
    pack.add_argument("--on-unreadable", choices=["skip", "stop"], default="skip")
    pack.add_argument("--val-fraction", type=float, default=0.1, metavar="X", help="share kept for validation")
    pack.add_argument("--seed", type=int, default=0, metavar="N", help="decides which")


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
    bundle.add_argument(
        "--checkpoint", choices=["best", "last"], default="best", help="whose weights are shipped (default: best)"
    )
    bundle.add_argument(
        "--moments", type=_positive, default=80, metavar="N", help="of the film, at least 60 (default: 80)"
    )
    bundle.add_argument("--note", default="", metavar="TEXT", help="what the card says of narrower layers' cost")
    bundle.add_argument("--force", action="store_true", help="put it in the place of a bundle that is there")


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


def _positive(text: str) -> int:
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number above 0, got {text!r}")


def _sides(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected short sides in pixels like 256,384,512, got {text!r}") from None


# --- verbs -----------------------------------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    changes = _given(options)
    _listen()  # until the training itself does
    if options.branch is not None and options.resume is not None:
        raise UserError("--branch makes a new run and --resume goes on with an old one: give one of them")
    if "data" in changes:
        changes["data"] = _lasting(changes["data"])
    if options.branch is not None:
        changes.pop("preset", None)  # a branch changes what it is told to change, and nothing else
        path = options.run_dir or new_path(RUNS, f"branch-of-{branch_stem(options.branch)}")
    elif options.resume is None:
        config = configured(changes.pop("preset", "paper-2012"), changes.pop("data", ""), **changes)
        path = options.run_dir or new_path(RUNS, folder_name(config))
    else:
        path = options.resume

    with claimed(path, waits=options.queue) as held:
        from alexnet import session  # noqa: PLC0415 - torch takes seconds; mistakes above need not wait for it
        from alexnet.group import joined_group  # noqa: PLC0415

        run = held or RunDirectory(path)
        progress = Progress("train")
        with joined_group(changes.get("device", "auto")) as group:
            if options.resume is not None:
                training = session.resume(run, changes, group, progress)
            elif options.branch is not None:
                checkpoint = taken(run, options.branch)
                training = session.branch(options.branch, changes, run, group, progress, taken=checkpoint)
            else:
                training = session.begin(config, run, group, progress)
            if group.leads:
                progress.say(f"run directory: {training.run_directory.path}")
            training.run()
    return 0


def _plan(options: argparse.Namespace) -> int:
    from alexnet import plan  # noqa: PLC0415 - as above

    _listen()
    given = _given(options)
    config, wrong = plan.problems({**given, "data": _lasting(given["data"])})
    found = {"problems": list(wrong.values()), "fields": wrong}
    text = ""
    if config is not None:
        from alexnet.rehearsal import rehearsed  # noqa: PLC0415 - as above

        progress = Progress("plan")

        def seen(doing: Doing) -> None:
            if options.json and options.progress:
                print(json.dumps(doing._asdict()), flush=True)
            else:
                progress.show(doing.done, doing.total, doing.what)

        try:
            made = rehearsed(config, steps=options.steps, seen=seen)
        finally:
            progress.close()
        found, text = made.as_data() | {"fields": {}}, plan.report(made)
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=None if options.progress else 2))
    elif text:
        print(text)
    for problem in found["problems"]:
        print(f"python -m alexnet plan: {problem}", file=sys.stderr)
    return 2 if found["problems"] else 0


def _ablate(options: argparse.Namespace) -> int:
    if not options.table:
        _train_variants(options)
    # What the numbers say is analysis's to tell, which builds on this package and not the other way round.
    command = [sys.executable, "-m", "analysis", "ablation", str(options.out), "--write"]
    return subprocess.run(command, env=environment(), check=False).returncode  # noqa: S603 - our own program


def _train_variants(options: argparse.Namespace) -> None:
    _listen()
    changes = _given(options)
    config = configured(changes.pop("preset", "paper-2012"), _lasting(changes.pop("data", "")), **changes)
    plan = ablation.planned(
        config,
        options.out,
        seeds=options.seeds,
        only=ablation.variants(options.only),
        rate=ablation.rates(options.rate),
    )

    def pictures() -> dict[str, Any]:
        from alexnet.data.sources import open_data  # noqa: PLC0415 - numpy and Pillow

        splits = open_data(config.data, val_fraction=config.val_fraction, seed=config.seed)
        return {"classes": list(splits.train.classes), "train": len(splits.train), "val": len(splits.val)}

    ablation.check(plan, options.out, pictures)
    ablation.trained(plan, _train_one)


def _train_one(one: ablation.Planned, meter: ablation.Meter, at: int) -> str:
    """One run of an ablation, as `train` and `train --resume` would do it; the state it ends in."""
    from alexnet import session  # noqa: PLC0415 - as above
    from alexnet.checks import TrainingError  # noqa: PLC0415
    from alexnet.group import joined_group  # noqa: PLC0415

    where = {name: getattr(one.config, name) for name in RESUMABLE}
    with joined_group(one.config.device) as group:
        if group.size > 1:
            raise UserError("an ablation is trained by one process: start it without torchrun")
        if one.state == "begun":
            training = session.resume(RunDirectory(one.run.path), where, group, meter)
        else:
            training = session.begin(one.config, RunDirectory(one.run.path), group, meter)
        meter.begins(at, step=training.trainer.step, steps=training.trainer.steps)
        try:
            return training.run()
        except TrainingError as error:
            raise ablation.RunFailedError(str(error)) from None


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


def _bundle(options: argparse.Namespace) -> int:
    from alexnet import bundle  # noqa: PLC0415 - as above
    from alexnet.data.sources import is_there  # noqa: PLC0415 - numpy and Pillow

    _listen()
    data = options.data or str(RunDirectory.open(options.run).config().get("config", {}).get("data", ""))
    if not is_there(data):
        raise UserError(f"the figures are measured on the training's pictures, and {data} is not there: name --data")
    with bundle.gathered(
        options.run, options.out, which=options.checkpoint, moments=options.moments, force=options.force
    ) as made:
        # What the card says is analysis's to measure, which builds on this package and not the other way round.
        command = [sys.executable, "-m", "analysis", "card", str(made.folder), "--run", str(options.run)]
        command += ["--checkpoint", options.checkpoint, "--data", data, f"--note={options.note}"]
        ended = subprocess.run(command, env=environment(), check=False).returncode  # noqa: S603 - our own program
        if ended:
            return ended
        made.publish()
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 1e6:.1f} MB in all; its card is {options.out / CARD}")
    return 0


def _lasting(data: str) -> str:
    """A name of the data that means the same from any folder, since a run may be resumed from another."""
    return str(Path(data).resolve()) if data not in {"", BUILT_IN} and Path(data).exists() else data


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The values of the recipe that were given."""
    named = {field.name: getattr(options, field.name) for field in dataclasses.fields(TrainConfig)}
    return {name: value for name, value in named.items() if value is not None}


def _listen() -> None:
    """Lets a request to end run through every `finally`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


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


def _export(options: argparse.Namespace) -> int:
    out: Path = options.out
    if out.suffix != ".zip":
        raise UserError(f"what is written is a zip file: name it {out.name}.zip")
    checkpoints = next(choice for choice in CHECKPOINTS if choice.replace(" ", "-") == options.checkpoints)
    tensorboard = not options.no_tensorboard
    held = portable.contents(options.run, checkpoints=checkpoints, tensorboard=tensorboard)
    for name in held.unknown:
        print(f"note: {name} is not of a run and is left out")
    progress = Progress("export")
    portable.export(
        options.run,
        out,
        checkpoints=checkpoints,
        tensorboard=tensorboard,
        overwrite=options.force,
        seen=lambda moved: progress.show(moved.done, moved.total, moved.file),
    )
    progress.close()
    print(f"{out}: {held.files:,} files of {options.run} in {out.stat().st_size / 1e6:,.1f} MB")
    return 0


def _import(options: argparse.Namespace) -> int:
    progress = Progress("import")
    path = portable.import_run(
        options.file,
        options.runs,
        options.name,
        seen=lambda moved: progress.show(moved.done, moved.total, moved.file),
    )
    progress.close()
    print(f"run directory: {path}")
    print(portable.origin(path))
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
        "plan": _plan,
        "ablate": _ablate,
        "evaluate": _evaluate,
        "inspect": _inspect,
        "convert": _convert,
        "bundle": _bundle,
        "pack": _pack,
        "export": _export,
        "import": _import,
        "presets": _presets,
    }
    return status(f"python -m alexnet {options.verb}", lambda: verbs[options.verb](options), (UserError,))


if __name__ == "__main__":
    sys.exit(main())
