"""python -m alexnet VERB: train, plan, ablate, evaluate, inspect, convert, bundle, pack, export, import, presets."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from alexnet import ablation, portable
from alexnet.bundled import CARD
from alexnet.commandline import status, write_utf8
from alexnet.config import RESUMABLE, TrainConfig, option
from alexnet.data.imagenet import readable
from alexnet.data.sources import lasting
from alexnet.errors import UserError
from alexnet.launch import branch_stem, claimed, environment, folder_name, taken
from alexnet.options import parser
from alexnet.portable import CHECKPOINTS
from alexnet.presets import PRESETS, configured
from alexnet.progress import Progress
from alexnet.runs import RUNS, RunDirectory, new_path
from alexnet.words import value_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from alexnet.evaluate import Evaluation
    from alexnet.rehearsal import Doing


def _train(options: argparse.Namespace) -> int:
    changes = _given(options)
    _listen()  # until the training itself does
    if options.branch is not None and options.resume is not None:
        raise UserError("--branch makes a new run and --resume goes on with an old one: give one of them")
    if "data" in changes:
        changes["data"] = lasting(changes["data"])
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
    config, wrong = plan.problems({**given, "data": lasting(given["data"])})
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
    return _analysed("ablation", str(options.out), "--write")


def _analysed(*words: str) -> int:
    """The exit status of `python -m analysis`: what numbers say is its to tell, and it builds on this package."""
    command = [sys.executable, "-m", "analysis", *words]
    return subprocess.run(command, env=environment(), check=False).returncode  # noqa: S603 - our own program


def _train_variants(options: argparse.Namespace) -> None:
    _listen()
    changes = _given(options)
    config = configured(changes.pop("preset", "paper-2012"), lasting(changes.pop("data", "")), **changes)
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
        words = ["--checkpoint", options.checkpoint, "--data", data, f"--note={options.note}"]
        if ended := _analysed("card", str(made.folder), "--run", str(options.run), *words):
            return ended
        made.publish()
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"{options.out}: {size / 1e6:.1f} MB in all; its card is {options.out / CARD}")
    return 0


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
        changes = ", ".join(f"{option(name)} {value_text(value)}" for name, value in preset.changes.items())
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
