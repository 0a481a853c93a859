"""python -m analysis VERB: networks, table, compare, verify, kernels, activations, ablation, card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet import errors
from alexnet.bundled import WHICH, Bundle
from alexnet.commandline import Parser, status, write_utf8
from alexnet.spec import IllegalNetworkError, times
from alexnet.zoo import CHANGES, NETWORKS, UnknownNetworkError, network_from
from analysis import formats, tables
from analysis.conventions import CONVENTIONS, UnknownConventionError, convention_named
from analysis.costs import MAX_BATCH, cost_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.spec import Network
    from analysis.kernels import LayerKernels
    from analysis.measured import Verdict

SCALINGS = ("kernel", "global")
CHANNELS = ("rgb", "red", "green", "blue", "pattern")
MEASURES = ("index", "colourfulness", "orientation", "frequency", "compactness", "smoothness", "norm")
"""As in `analysis.sheets` and `analysis.kernels`, whose numpy the other verbs need not load."""

_LONGEST_NUMBER = 20  # digits that anybody means; Python refuses to print a number of thousands
UserError = (errors.UserError, IllegalNetworkError, UnknownNetworkError, UnknownConventionError)


def parser() -> argparse.ArgumentParser:
    """The command line of `python -m analysis`."""
    top = Parser(prog="python -m analysis", description="Exact costs of AlexNet, its variants and VGG.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=Parser)

    networks = verbs.add_parser("networks", help="every network with its totals")
    _add_format(networks)

    table = verbs.add_parser("table", help="every stage of a network")
    table.add_argument(
        "network",
        metavar="NETWORK",
        help="a name from `networks`; NAME@SIDE or NAME@HxW for another input; behind it "
        f"{', '.join(f':{change}' for change in CHANGES)}",
    )
    _add_shape(table)
    table.add_argument(
        "--convention",
        default="ours",
        metavar="NAME",
        help=f"count as this tool does: {', '.join(CONVENTIONS)} (default: ours)",
    )
    _add_format(table)

    compare = verbs.add_parser("compare", help="networks side by side")
    compare.add_argument("networks", nargs="+", metavar="NETWORK", help="names; variants as for `table`")
    _add_shape(compare)
    _add_format(compare)

    check = verbs.add_parser(
        "verify", help="closed formulas against fvcore, torchinfo and torch; exit status 1 on any mismatch"
    )
    check.add_argument("networks", nargs="*", metavar="NETWORK", help="names (default: all)")
    _add_shape(check, batch=False)
    check.add_argument("--format", choices=("text", "json"), default="text")

    _add_kernels(verbs.add_parser("kernels", help="a layer's kernels in one picture, and what they look for"))
    _add_activations(verbs.add_parser("activations", help="what every stage makes of a picture"))
    trained = verbs.add_parser("ablation", help="what LRN, overlapping pooling and ReLU are worth, from trained runs")
    trained.add_argument(
        "path", type=Path, metavar="PATH", help="the folder that `python -m alexnet ablate` filled, or a results.json"
    )
    trained.add_argument("--write", action="store_true", help="also write results.json and results.md into the folder")
    trained.add_argument("--format", choices=("text", "markdown", "json"), default="text")
    _add_card(verbs.add_parser("card", help="the figures and the model card of a bundle"))
    return top


def _add_card(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("folder", type=Path, metavar="BUNDLE", help="the folder that `python -m alexnet bundle` made")
    verb.add_argument("--run", type=Path, metavar="RUN", help="measure again: the run it was made of, and --data")
    verb.add_argument("--data", metavar="DATA", help="the pictures of the training")
    verb.add_argument("--checkpoint", choices=WHICH, default="best", help="whose weights they are")
    verb.add_argument("--note", default="", metavar="TEXT", help="what the card says besides")
    verb.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:1 (default: auto)")


def _add_kernels(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="weights of any known kind, or a run")
    verb.add_argument("-o", "--output", type=Path, metavar="OUT.png", help="where the picture goes (default: none)")
    verb.add_argument("--layer", default="conv1", metavar="NAME", help="a convolution (default: conv1)")
    verb.add_argument(
        "--scaling",
        choices=SCALINGS,
        default="kernel",
        help="the largest weight of each kernel, or of all, is brightest",
    )
    verb.add_argument(
        "--channels",
        type=_channels,
        metavar="WHICH",
        help=f"{', '.join(CHANNELS)}, or the number of an input channel (default: rgb, or pattern in deeper layers)",
    )
    verb.add_argument("--sort", choices=MEASURES, default="index", help="order of the kernels in each tower")
    verb.add_argument("--network", metavar="NETWORK", help="the network, where the file does not say (see `networks`)")
    verb.add_argument("--pixels", metavar="KIND", help="the input it expects, where the file does not say")
    _add_format(verb)


def _add_activations(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="weights of any known kind, or a run")
    verb.add_argument("image", type=Path, metavar="IMAGE", help="a picture")
    verb.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for pictures and .npy")
    verb.add_argument("--stage", nargs="+", default=[], metavar="NAME", help="stages to write (default: all)")
    verb.add_argument("--force", action="store_true", help="write into a folder that holds something")
    verb.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:1 (default: auto)")
    verb.add_argument("--network", metavar="NETWORK", help="the network, where the file does not say (see `networks`)")
    verb.add_argument("--pixels", metavar="KIND", help="the input it expects, where the file does not say")


def _channels(text: str) -> str | int:
    return int(text) if text.isdecimal() and len(text) < _LONGEST_NUMBER else text


def _add_format(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--format", choices=formats.FORMATS, default="text")


def _add_shape(verb: argparse.ArgumentParser, *, batch: bool = True) -> None:
    verb.add_argument("--input", type=_shape, metavar="CxHxW", help="input shape like 3x224x224, or its side like 224")
    verb.add_argument("--classes", type=_integer, metavar="N", help="number of classes")
    verb.add_argument("--hidden", type=_integer, metavar="N", help="width of the hidden fully connected layers")
    if batch:
        verb.add_argument("--batch", type=_batch, default=1, metavar="N", help="images counted together (default: 1)")


def _integer(text: str) -> int:
    if len(text) > _LONGEST_NUMBER:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {len(text):,} characters")
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None


def _batch(text: str) -> int:
    if not 1 <= (number := _integer(text)) <= MAX_BATCH:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MAX_BATCH:,}, got {text!r}")
    return number


def _shape(text: str) -> tuple[int, ...]:
    """One to three whole numbers: a side, height and width, or channels, height and width."""
    parts = text.lower().replace("×", "x").split("x")
    try:
        shape = tuple(int(part) for part in parts if len(part) <= _LONGEST_NUMBER)
    except ValueError:
        shape = ()
    if len(shape) != len(parts) or not 1 <= len(shape) <= 3:
        raise argparse.ArgumentTypeError(
            f"expected channels, height and width like 3x227x227, or a side like 227; got {text[:60]!r}"
        )
    return shape


def _network(reference: str, options: argparse.Namespace) -> Network:
    network = network_from(reference)
    shape: tuple[int, ...] | None = options.input
    if shape is not None:
        if "@" in reference:
            raise IllegalNetworkError(f"{reference} and --input both give an input size; give one")
        if len(shape) < 3:
            shape = (network.input_shape[0], shape[0], shape[-1])
    return network.adapted(input_shape=shape, classes=options.classes, hidden=options.hidden)


def _note(network: Network) -> None:
    """Remarks about the input size, on stderr so that the table itself stays clean."""
    for note in network.notes():
        print(f"note: {note}", file=sys.stderr)


def _networks(options: argparse.Namespace) -> int:
    print(formats.write(tables.networks_table(), options.format), end="")
    return 0


def _table(options: argparse.Namespace) -> int:
    convention = convention_named(options.convention)
    costs = cost_table(_network(options.network, options), options.batch)
    if options.format == "json":
        print(formats.json_text(tables.cost_json(costs, convention)), end="")
    else:
        print(formats.write(tables.stage_table(costs, convention), options.format), end="")
    _note(costs.network)
    return 0


def _compare(options: argparse.Namespace) -> int:
    costs = [cost_table(_network(name, options), options.batch) for name in options.networks]
    parts = [
        tables.totals_comparison(costs),
        tables.stages_comparison(costs, "params"),
        tables.stages_comparison(costs, "macs"),
    ]
    if options.format == "json":
        print(formats.json_text({"networks": [tables.cost_json(table) for table in costs]}), end="")
    elif options.format == "csv":
        print(formats.write(tables.tidy_comparison(costs), "csv"), end="")
    else:
        print("\n".join(formats.write(part, options.format) for part in parts), end="")
    return 0


def _verify(options: argparse.Namespace) -> int:
    networks = [_network(name, options) for name in options.networks or NETWORKS]
    from analysis.measured import verify  # noqa: PLC0415 - torch takes seconds to import and only this verb needs it

    verdicts = []
    for network in networks:
        verdicts.append(verify(network))
        if options.format == "text":
            print(_verdict_text(verdicts[-1], network), flush=True)
    if options.format == "json":
        print(formats.json_text([verdict.as_json() for verdict in verdicts]), end="")
    return 0 if all(verdict.agrees for verdict in verdicts) else 1


def _verdict_text(verdict: Verdict, network: Network) -> str:
    lines = [f"{'agree   ' if verdict.agrees else 'MISMATCH'}  {network.name}, input {times(network.input_shape)}"]
    for entry in verdict.as_json()["witnesses"]:
        figure = f"total {entry['theirs']:,}" if "theirs" in entry else ""
        agree = f"{entry['agree']} of {entry['compared']}"
        lines.append(f"    {entry['witness']:<16} {entry['quantity']:<15} {agree:>9} agree  {figure}".rstrip())
    lines += [f"    {witness:<16} not asked: {reason}" for witness, reason in verdict.skipped]
    lines += [
        f"    MISMATCH at {check.stage}: {check.witness} counts {check.theirs} {check.quantity}, we count {check.ours}"
        for check in verdict.mismatches
    ]
    return "\n".join(lines)


def _kernels(options: argparse.Namespace) -> int:
    out: Path | None = options.output
    if out is not None and (out.suffix.lower() != ".png" or out.is_dir()):
        what = "is a folder" if out.is_dir() else "is no name for a PNG"
        raise errors.UserError(f"{out} {what}: give the picture a name like kernels.png")
    if out is not None and not out.parent.is_dir():
        raise errors.UserError(f"there is no folder {out.parent} to put {out.name} into")
    # Loading torch takes seconds, and only this verb needs it.
    from alexnet.foreign import open_checkpoint  # noqa: PLC0415
    from analysis.kernels import layer_kernels  # noqa: PLC0415

    checkpoint = open_checkpoint(options.checkpoint, network=options.network, pixels=options.pixels)
    kernels = layer_kernels(checkpoint, options.layer)
    if out is not None:
        _draw_kernels(kernels, out, options)
    for note in checkpoint.notes:
        print(f"note: {note}", file=sys.stderr)
    if options.format != "text":
        print(formats.write(kernels.table, options.format), end="")
        return 0
    print(f"{formats.write(kernels.towers_table, 'text')}\n{kernels.sentence}")
    if out is not None:
        print(f"The picture is {out}.")
    return 0


def _draw_kernels(kernels: LayerKernels, out: Path, options: argparse.Namespace) -> None:
    from alexnet.runs import replace_atomically  # noqa: PLC0415 - see `_kernels`
    from analysis.kernels import order  # noqa: PLC0415
    from analysis.sheets import Sheet, kernel_tiles, labelled, tower_groups  # noqa: PLC0415

    count, channels, height, width = kernels.weights.shape
    shown: Any = options.channels if options.channels is not None else "rgb" if channels == 3 else "pattern"
    tiles = kernel_tiles(kernels.weights, options.scaling, shown)
    orders = order(kernels.kernels, options.sort)
    sheet = Sheet(tower_groups(orders, kernels.names), 16 if count <= 256 else 32, (height, width))
    what = {"rgb": "Red, green and blue as they are", "pattern": "The strongest pattern over the input channels"}
    scaled = "each kernel scaled by its own largest weight" if options.scaling == "kernel" else "all on one scale"
    caption = [
        kernels.sentence,
        f"{what.get(shown, f'Channel {shown}')}, {scaled}; a weight of zero is mid-grey.",
        f"Sorted by {options.sort} in each tower." if options.sort != "index" else "",
    ]
    title = f"{kernels.layer} of {options.checkpoint.resolve().name}: {count} kernels of {height}×{width}×{channels}"
    picture = labelled(tiles, sheet, title, " ".join(filter(None, caption)))
    replace_atomically(out, lambda file: picture.save(file, "PNG"), durable=False)


def _activations(options: argparse.Namespace) -> int:
    folder: Path = options.output
    if folder.exists() and not folder.is_dir():
        raise errors.UserError(f"{folder} is a file: give the folder another name")
    if folder.is_dir() and any(folder.iterdir()) and not options.force:
        raise errors.UserError(f"{folder} is not empty: choose another folder, or write into this one with --force")
    from alexnet.data.images import decode  # noqa: PLC0415 - see `_kernels`
    from alexnet.foreign import open_checkpoint  # noqa: PLC0415
    from alexnet.inference import Viewer  # noqa: PLC0415
    from alexnet.machine import named_devices  # noqa: PLC0415
    from alexnet.progress import Progress  # noqa: PLC0415
    from analysis import activations  # noqa: PLC0415

    picture = decode(options.image)
    checkpoint = open_checkpoint(options.checkpoint, network=options.network, pixels=options.pixels)
    devices = named_devices(options.device, checkpoint.network)
    if len(devices) != 1:
        raise errors.UserError(f"--device takes one device here, got {options.device!r}")
    found = activations.activations(Viewer(checkpoint, devices[0]), picture)
    progress = Progress("activations")
    try:
        activations.write_folder(found, folder, options.stage, progress.show)
    finally:
        progress.close()
    for note in checkpoint.notes:  # on stderr, as `_note`'s
        print(f"note: {note}", file=sys.stderr)
    print(formats.write(activations.stage_table(found), "text"))
    for best in activations.top_classes(found):
        print(f"{formats.percent(best.probability):>8}  {best.name}")
    if why := activations.why_no_classes(found):
        print(why)
    print(f"The maps and values are in {folder}.")
    return 0


def _ablation(options: argparse.Namespace) -> int:
    from analysis import ablation, ablation_tables  # noqa: PLC0415 - see `_kernels`

    found = ablation.read(options.path)
    if options.write:
        if not options.path.is_dir():
            raise errors.UserError(f"--write needs the folder of the runs, and {options.path} is a file")
        ablation_tables.save(found, options.path)
    written = {
        "text": ablation_tables.report,
        "markdown": ablation_tables.markdown,
        "json": ablation_tables.as_text,
    }
    print(written[options.format](found), end="")
    return 0


def _card(options: argparse.Namespace) -> int:
    """Measures and writes results.json and MODEL_CARD.md; without a run the card alone, from results.json."""
    from analysis import card, shipped  # noqa: PLC0415 - see `_kernels`

    bundle = Bundle(options.folder)
    if (options.run is None) != (options.data is None):
        raise errors.UserError("--run and --data belong together: both to measure, none to write the card again")
    if options.run is None:
        card.save(bundle.results(), bundle.folder)
        return 0
    from alexnet.progress import Progress  # noqa: PLC0415

    progress = Progress("card")
    try:
        results = shipped.measured(
            bundle.folder,
            options.run,
            options.data,
            which=options.checkpoint,
            note=options.note,
            device=options.device,
            say=progress.say,
            seen=progress.show,
        )
    finally:
        progress.close()
    shipped.save(results, bundle.folder)
    card.save(results, bundle.folder)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    write_utf8()
    options = parser().parse_args(arguments)
    verbs = {
        "networks": _networks,
        "table": _table,
        "compare": _compare,
        "verify": _verify,
        "kernels": _kernels,
        "activations": _activations,
        "ablation": _ablation,
        "card": _card,
    }
    return status(f"python -m analysis {options.verb}", lambda: verbs[options.verb](options), UserError)


if __name__ == "__main__":
    sys.exit(main())
