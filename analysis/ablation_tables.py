"""An ablation in tables and sentences, and as the report that is kept beside the runs."""

from __future__ import annotations

import json
import statistics
from typing import TYPE_CHECKING

from alexnet.ablation import BASELINE
from alexnet.runs import replace_atomically
from analysis.ablation import PUBLISHED, PUBLISHED_SPEED, REACHES, RESULTS, effect, errors, slower, spread
from analysis.formats import Column, Table, json_text, number_text, percent, rounded, write
from analysis.kernel_figures import BVLC, random_figures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from analysis.ablation import Ablation, Effect, Spread, Variant
    from analysis.formats import Value
    from analysis.kernel_figures import KernelFigures

# --- sentences --------------------------------------------------------------------------------------------------------


def sentences(found: Ablation) -> list[str]:
    """What was found, beside what was published, one sentence for each variant."""
    return [sentence for one in found.variants if one.name != BASELINE for sentence in _said(found, one.name)]


def _said(found: Ablation, name: str) -> Iterator[str]:
    published, ours = PUBLISHED[name], effect(found, name)
    if ours is None:
        yield f"{published.title}: no seed was trained with and without it."
        return
    known = "one seed, so nothing is known of the spread"
    if interval := interval_text(ours):
        known = interval + ("" if ours.decided else "; it includes 0, so these runs cannot tell")
    theirs = ""
    if published.top1 is not None:
        apart = ", outside this interval" if ours.excludes(published.top1) else ""
        theirs = f" Published: {points(published.top1)}{apart} ({published.source})."
    yield f"{published.title}: top-1 error {points(ours.mean)} points ({known}).{theirs}"
    if name == "tanh":
        yield _speed(found)


def _speed(found: Ablation) -> str:
    factor = slower(found, "tanh")
    published = f"published: {PUBLISHED_SPEED:g} times, a four-layer network on CIFAR-10 (figure 1)"
    if factor is None:
        counts = [_reached(found, name) for name in (BASELINE, "tanh")]
        return f"25 % training error was reached by {counts[0]} with ReLU and {counts[1]} with tanh; {published}."
    times, pairs = factor
    return f"tanh takes {times:.2g} times as many epochs to 25 % training error ({pairs} seeds); {published}."


def _reached(found: Ablation, name: str) -> str:
    one = found.variant(name)
    runs = one.runs if one else ()
    return f"{sum(run.reached is not None for run in runs)} of {len(runs)} runs"


def tower_sentences(found: Ablation) -> list[str]:
    """Whether the towers specialise, a sentence for each variant whose kernels are known, beside BVLC's and random."""
    said = [sentence for one in found.variants if (sentence := _of_towers(one))]
    if not said:
        return []
    (first, second), apart = BVLC.colourfulness, _apart(BVLC)
    chance, *_ = random_figures().colourfulness
    beside = f"The towers of BVLC AlexNet have {first:.2f} and {second:.2f}, {apart:.2f} apart"
    return [*said, f"{beside}; random weights have {chance:.2f} in both."]


def _of_towers(one: Variant) -> str | None:
    """Which tower is the colourful one over the seeds, and by how much."""
    by_seed = [apart for run in one.runs if run.kernels and (apart := _apart(run.kernels)) is not None]
    ahead = spread([abs(apart) for apart in by_seed])
    if ahead is None:
        return None
    first, second = (sum(sign * apart > 0 for apart in by_seed) for sign in (1, -1))
    if not first + second:
        which = "neither tower is the more colourful one"
    elif ahead.count == 1:
        which = f"tower {1 if first else 2} is the more colourful one (one seed)"
    elif ahead.count in {first, second}:
        which = (
            f"always tower {1 if first else 2} is the more colourful one ({ahead.count} of {ahead.count} seeds; by "
            f"chance it is always the same 1 time in {2 ** (ahead.count - 1)})"
        )
    else:
        which = (
            f"not always the same tower is the more colourful one (tower 1 in {first} of {ahead.count} seeds, tower 2 "
            f"in {second})"
        )
    deviation = "" if ahead.deviation is None else f" ± {ahead.deviation:.2f}"
    return f"{one.name}: {which}; the two are {ahead.mean:.2f}{deviation} apart in mean colourfulness."


def _apart(figures: KernelFigures) -> float | None:
    """Colourfulness of tower 1 less that of tower 2; None where there are not two towers with colours."""
    match figures.colourfulness:
        case (float(first), float(second)):
            return first - second
    return None


def interval_text(cost: Effect) -> str:
    """``95 % interval −0.48 to +4.48, 3 seeds``, in points; nothing of one seed."""
    if cost.half is None:
        return ""
    low, high = points(cost.mean - cost.half), points(cost.mean + cost.half)
    return f"95 % interval {low} to {high}, {len(cost.seeds)} seeds"


def points(share: float) -> str:
    """A difference of two shares in percentage points, with its sign: ``+1.40``."""
    text = f"{100 * share:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")


# --- tables -----------------------------------------------------------------------------------------------------------


def results_table(found: Ablation) -> Table:
    """Every variant: errors at the last validation with their spread, and the best for comparison."""
    k = found.k
    columns = (
        Column("variant", "variant"),
        Column("seeds", "seeds"),
        Column("top1_error", "top-1 error, mean", percent=True),
        Column("top1_deviation", "± s", percent=True),
        Column(f"top{k}_error", f"top-{k} error, mean", percent=True),
        Column(f"top{k}_deviation", "± s", percent=True),
        Column("best_top1_error", "top-1 error at the best", percent=True),
        Column("learning_rate", "learning rate"),
    )
    rows: list[tuple[Value, ...]] = []
    for one in found.variants:
        first, kth = errors(one), errors(one, top=k)
        best = statistics.fmean(1 - run.best_top1 for run in one.runs)
        rows.append(
            (one.name, len(one.runs), *_mean_and_deviation(first), *_mean_and_deviation(kth), best, one.learning_rate)
        )
    return Table(f"Errors after the last epoch, {_data(found)}", columns, tuple(rows))


def _mean_and_deviation(of: Spread | None) -> tuple[float | None, float | None]:
    return (of.mean, of.deviation) if of else (None, None)


def effects_table(found: Ablation) -> Table:
    """What each change costs in error, paired by seed, beside the published figures."""
    k = found.k
    columns = (
        Column("change", "change"),
        Column("seeds", "pairs of seeds"),
        Column("top1", "top-1 error, points"),
        Column("top1_half", "95 %: ±"),
        Column(f"top{k}", f"top-{k} error, points"),
        Column(f"top{k}_half", "95 %: ±"),
        Column("published_top1", "published top-1"),
        Column("published_top5", "published top-5"),
        Column("source", "source"),
    )
    rows: list[tuple[Value, ...]] = []
    for one in found.variants:
        first = effect(found, one.name)
        if one.name == BASELINE or first is None:
            continue
        published, kth = PUBLISHED[one.name], effect(found, one.name, top=k)
        numbers: tuple[float | None, ...] = (
            *_points_of(first),
            *_points_of(kth),
            *(None if share is None else 100 * share for share in (published.top1, published.top5)),
        )
        rows.append((published.title, len(first.seeds), *(rounded(number, 2) for number in numbers), published.source))
    return Table(f"What each change costs, {_data(found)}", columns, tuple(rows))


def _points_of(of: Effect | None) -> tuple[float | None, float | None]:
    if of is None:
        return None, None
    return 100 * of.mean, None if of.half is None else 100 * of.half


def speed_table(found: Ablation) -> Table:
    """Figure 1: epochs until the training error, a mean over an epoch, is first 25 %."""
    columns = (
        Column("variant", "variant"),
        Column("seeds", "seeds"),
        Column("reached", "reached it"),
        Column("epochs", "epochs, mean"),
        Column("deviation", "± s"),
        Column("each", "each seed"),
        Column("times", "times the baseline's"),
    )
    rows: list[tuple[Value, ...]] = []
    for one in found.variants:
        known = spread([run.reached for run in one.runs if run.reached is not None])
        each = ", ".join("not reached" if run.reached is None else number_text(run.reached, 3) for run in one.runs)
        factor = slower(found, one.name) if one.name != BASELINE else None
        rows.append(
            (
                one.name,
                len(one.runs),
                known.count if known else 0,
                *_mean_and_deviation(known),
                each,
                round(factor[0], 3) if factor else None,
            )
        )
    return Table(f"Epochs to {percent(REACHES, 0)} training error, {_data(found)}", columns, tuple(rows))


def kernels_table(found: Ablation) -> Table | None:
    """Each run's first layer in figures, with those of BVLC AlexNet and of random weights last; None without any."""
    known = [(one.name, run.seed, run.kernels) for one in found.variants for run in one.runs if run.kernels]
    if not known:
        return None
    most, towers = (max(counts) for counts in zip(*((k.kernels, len(k.colourfulness)) for *_, k in known), strict=True))
    columns = (
        Column("variant", "variant"),
        Column("seed", "seed"),
        Column("compact", f"compact kernels, of {most}"),
        Column("smoothness", "smoothness, median"),
        *(Column(f"colourfulness_{at}", f"colourfulness, tower {at}") for at in range(1, towers + 1)),
        *([Column("difference", "tower 1 − tower 2")] if towers == 2 else []),
    )
    beside: list[tuple[str, int | None, KernelFigures]] = [
        ("random weights, expected", None, random_figures(most, towers))
    ]
    if (most, towers) == (BVLC.kernels, len(BVLC.colourfulness)):
        beside.insert(0, ("BVLC AlexNet", None, BVLC))
    rows = tuple((name, seed, *_of_kernels(figures, towers)) for name, seed, figures in (*known, *beside))
    return Table(f"Do the towers specialise? Kernels of the first layer, {_data(found)}", columns, rows)


def _of_kernels(figures: KernelFigures, towers: int) -> tuple[Value, ...]:
    colours: list[float | None] = [*figures.colourfulness, *[None] * towers][:towers]
    numbers = [figures.smoothness, *colours, *([_apart(figures)] if towers == 2 else [])]
    return figures.compact, *(rounded(number, 3) for number in numbers)


def runs_table(found: Ablation) -> Table:
    """Every run."""
    columns = (
        Column("variant", "variant"),
        Column("seed", "seed"),
        Column("top1_error", "top-1 error", percent=True),
        Column(f"top{found.k}_error", f"top-{found.k} error", percent=True),
        Column("best_top1_error", "top-1 error at the best", percent=True),
        Column("train_error", "training error, last epoch", percent=True),
        Column("reached", "epochs to 25 % training error"),
        Column("minutes", "minutes"),
    )
    rows: list[tuple[Value, ...]] = [
        (
            one.name,
            run.seed,
            1 - run.last_top1,
            None if run.last_topk is None else 1 - run.last_topk,
            1 - run.best_top1,
            None if run.train_top1[-1] is None else 1 - run.train_top1[-1],
            "not reached" if run.reached is None else number_text(run.reached, 3),
            None if run.seconds is None else round(run.seconds / 60, 1),
        )
        for one in found.variants
        for run in one.runs
    ]
    return Table("Every run", columns, tuple(rows))


def _data(found: Ablation) -> str:
    return f"{found.data.get('name')}, {_epochs(found)}"


def _epochs(found: Ablation) -> str:
    return f"{number_text(found.epochs, 3)} epochs"


def tables(found: Ablation) -> tuple[Table, ...]:
    """All of them, what was asked first."""
    kernels = kernels_table(found)
    between = () if kernels is None else (kernels,)
    return effects_table(found), results_table(found), speed_table(found), *between, runs_table(found)


METHOD = (
    "Runs of one seed share initial weights, order and crops, so differences are taken seed by seed; the interval is "
    "Student's t over them. Errors are of each run's last validation, with the centre crop: the best of many would "
    "flatter. The training error is that of the steps themselves, with dropout and random crops where the recipe has "
    "them, while the network still learns, so it is above the network's error on the training set. With tanh initial "
    "biases are 0, and every other weight starts as with ReLU."
)


def markdown(found: Ablation) -> str:
    """The whole report."""
    machine = "; ".join(", ".join(f"{what}: {which}" for what, which in machine.items()) for machine in found.machines)
    counts = f"{found.data.get('train')} training and {found.data.get('val')} validation pictures"
    about = f"{found.data.get('name')}: {found.data.get('classes')} classes, {counts}. "
    about += f"Network {found.recipe['network']}, {_epochs(found)}."
    parts = [
        "# What LRN, overlapping pooling and ReLU are worth\n",
        f"{about}\n",
        "".join(f"- {sentence}\n" for sentence in (*sentences(found), *tower_sentences(found))),
        *(f"## {table.title}\n\n{write(table, 'markdown')}" for table in tables(found)),
        f"{METHOD}\n",
        f"Machine: {machine}\n",
        f"Again: `{found.command}`\n",
    ]
    return "\n".join(parts)


def save(found: Ablation, folder: Path) -> None:
    """Writes results.json and results.md.

    Raises:
        OSError: there is no room, or no right to.
    """
    compact = json.dumps(found.as_json(), ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
    replace_atomically(folder / RESULTS, compact.encode(), durable=False)
    replace_atomically((folder / RESULTS).with_suffix(".md"), markdown(found).encode(), durable=False)


def report(found: Ablation) -> str:
    """What the command prints."""
    written = "\n".join(write(table, "text") for table in tables(found))
    return f"{written}\n" + "".join(f"{sentence}\n" for sentence in (*sentences(found), *tower_sentences(found)))


def as_text(found: Ablation) -> str:
    """Everything as JSON for programs, with the tables."""
    return json_text(found.as_json() | {"tables": [{"title": t.title, "rows": t.records()} for t in tables(found)]})
