"""A run's validations, classes and layers as tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from analysis.formats import Column, Table
from analysis.learning import best, relative_updates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.curves import Curves, Moments
    from analysis.formats import Value


def _value(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _whole(number: float) -> int | None:
    return int(number) if math.isfinite(number) else None


def validations_table(curves: Curves) -> Table:
    """Every validation, in the order of the run; epochs are counted from 1, as people do."""
    val = curves.val
    rows: list[tuple[Value, ...]] = [
        (int(step), _whole(epoch + 1), _value(top1), _value(topk), _value(loss), _value(seconds))
        for step, epoch, top1, topk, loss, seconds in zip(
            val.step, *(one.tolist() for one in (val.epoch, val.top1, val.topk, val.loss, val.seconds)), strict=True
        )
    ]
    columns = (
        Column("step", "step"),
        Column("epoch", "epoch"),
        Column("top1", "top-1", percent=True),
        Column(f"top{val.k}", f"top-{val.k}", percent=True),
        Column("loss", "loss"),
        Column("seconds", "seconds"),
    )
    return Table("Validations", columns, tuple(rows))


def class_names(curves: Curves, names: Sequence[str] | None) -> list[str]:
    """A name for each class of the validations: those given if they are as many, else ``class 0`` and so on.

    Of classes with the same name each has its number behind it.
    """
    count = curves.classes or 0
    if names is None or len(names) != count:
        return [f"class {at}" for at in range(count)]
    return [f"{name} ({at})" if names.count(name) > 1 else name for at, name in enumerate(names)]


def classes_table(curves: Curves, names: Sequence[str] | None = None) -> Table:
    """Each class's share of right answers at the best and at the latest validation, and the change between them."""
    found, shares = best(curves), curves.val.per_class
    rows: list[tuple[Value, ...]] = []
    for at, name in enumerate(class_names(curves, names)):
        top = float(shares[found.index, at]) if found else math.nan
        latest = float(shares[-1, at])
        rows.append((name, _value(top), _value(latest), _value(latest - top)))
    columns = (
        Column("class", "class"),
        Column("best", f"at the best (step {found.step:,})" if found else "at the best", percent=True),
        Column("latest", "at the latest", percent=True),
        Column("change", "change since the best", percent=True),
    )
    return Table("Accuracy of each class", columns, tuple(rows))


def layers_table(curves: Curves) -> Table:
    """The latest norms of each weight and of its gradient, and how far one step moves it (`relative_updates`)."""
    updates = relative_updates(curves)
    rows: list[tuple[Value, ...]] = []
    for name, weight in curves.weights.items():
        steps, ratios = updates.get(name, (weight.step[:0], weight.norm[:0]))
        rows.append(
            (
                name,
                int(weight.step[-1]),
                _last(weight),
                _last(curves.gradients.get(name)),
                _value(float(ratios[-1])) if len(steps) else None,
            )
        )
    columns = (
        Column("weight", "weight"),
        Column("step", "step"),
        Column("weight_norm", "‖w‖"),
        Column("gradient_norm", "‖g‖"),
        Column("update", "ε·‖g‖ / ‖w‖"),
    )
    return Table("Weights and gradients", columns, tuple(rows))


def _last(moments: Moments | None) -> float | None:
    return None if moments is None else _value(float(moments.norm[-1]))
