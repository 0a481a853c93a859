"""python -m analysis VERB: networks, table, compare, verify."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from alexnet.commandline import Parser, status, write_utf8
from alexnet.spec import IllegalNetworkError, times
from alexnet.zoo import NETWORKS, UnknownNetworkError, network_from
from analysis import formats, tables
from analysis.conventions import CONVENTIONS, UnknownConventionError, convention_named
from analysis.costs import MAX_BATCH, cost_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alexnet.spec import Network
    from analysis.measured import Verdict

_LONGEST_NUMBER = 20  # digits that anybody means; Python refuses to print a number of thousands
UserError = (IllegalNetworkError, UnknownNetworkError, UnknownConventionError)


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
        help="a name from `networks`; NAME@SIDE or NAME@HxW for another input, NAME:no-lrn without LRN",
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
    compare.add_argument("networks", nargs="+", metavar="NETWORK", help="names; NAME@SIDE and NAME:no-lrn are variants")
    _add_shape(compare)
    _add_format(compare)

    check = verbs.add_parser(
        "verify", help="closed formulas against fvcore, torchinfo and torch; exit status 1 on any mismatch"
    )
    check.add_argument("networks", nargs="*", metavar="NETWORK", help="names (default: all)")
    _add_shape(check, batch=False)
    check.add_argument("--format", choices=("text", "json"), default="text")
    return top


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    write_utf8()
    options = parser().parse_args(arguments)
    verbs = {"networks": _networks, "table": _table, "compare": _compare, "verify": _verify}
    return status(f"python -m analysis {options.verb}", lambda: verbs[options.verb](options), UserError)


if __name__ == "__main__":
    sys.exit(main())
