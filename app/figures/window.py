"""One window of a convolution as SVG: input times weight is product, every number in its place.

No Streamlit, no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.sheets import coloured
from app.figures.maps import drawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_SIDE = 370  # of one grid, in the drawing's units
_GAP = 36  # between grids, for the sign
_TOP = 26


def window_svg(inputs: NDArray[Any], weights: NDArray[Any], products: NDArray[Any], *, title: str) -> str:
    """Three (h, w) grids side by side, each with its own scale around zero: red is positive, blue negative."""
    rows, columns = inputs.shape
    unit = _SIDE / max(rows, columns)
    parts: list[str] = []
    for number, (name, sign, values) in enumerate(
        (("input", "×", inputs), ("weight", "=", weights), ("product", "", products))
    ):
        left = number * (columns * unit + _GAP)
        parts.append(f'<text class="head" x="{left:.1f}" y="15">{name}</text>')
        parts += _cells(values, left, unit)
        parts.append(
            f'<text x="{left + columns * unit + _GAP / 2:.1f}" y="{_TOP + rows * unit / 2:.1f}" '
            f'text-anchor="middle" dominant-baseline="central" style="font-size:20px">{sign}</text>'
        )
    return drawn((3 * columns * unit + 2 * _GAP + 1, _TOP + rows * unit + 1), title, parts)


def _cells(values: NDArray[Any], left: float, unit: float) -> Iterator[str]:
    reach = float(np.abs(values).max()) or 1.0
    shades = coloured(values, -reach, reach, "diverging")
    size = min(unit / 3.1, 15)
    for (row, column), value in np.ndenumerate(values):
        red, green, blue = (int(part) for part in shades[row, column])
        # Letters light on dark cells and dark on light ones (weights of brightness as in ITU-R BT.601).
        ink = "#fff" if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else "#1f2328"
        x, y = left + column * unit, _TOP + row * unit
        yield (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{unit - 1:.1f}" height="{unit - 1:.1f}" '
            f'fill="#{red:02x}{green:02x}{blue:02x}"><title>row {row}, column {column}: {value:.6g}</title></rect>'
            f'<text x="{x + unit / 2:.1f}" y="{y + unit / 2:.1f}" text-anchor="middle" dominant-baseline="central" '
            f'style="font-size:{size:.1f}px;fill:{ink};pointer-events:none">{_short(float(value))}</text>'
        )


def _short(value: float) -> str:
    """Few enough digits for a cell, with a real minus and without a leading zero."""
    if value == 0:
        return "0"
    size = abs(value)
    text = (
        f"{size:.0f}" if size >= 99.5 else f"{size:.1f}" if size >= 0.995 else f"{size:.2f}" if size >= 0.0995 else ""
    )
    if not text:
        text = f"{size:.3f}" if size >= 0.0005 else "0.000"
    return ("−" if value < 0 else "") + text.removeprefix("0")
