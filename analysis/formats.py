"""Tables as people take them away: text, Markdown, CSV, JSON and LaTeX (booktabs).  Standard library only.

A `Table` holds raw values; how they look is decided when it is written, so CSV and JSON keep every digit.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Value = str | int | float | None
Format = Literal["text", "markdown", "csv", "json", "latex"]
FORMATS: tuple[Format, ...] = ("text", "markdown", "csv", "json", "latex")
SUFFIXES: dict[Format, str] = {"text": "txt", "markdown": "md", "csv": "csv", "json": "json", "latex": "tex"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `key` names it in CSV and JSON, `heading` in print.  `percent` values are fractions of one."""

    key: str
    heading: str
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of raw values in the order of `columns`; `totals` is a last row set apart, or None."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    totals: tuple[Value, ...] | None = None

    def records(self) -> list[dict[str, Value]]:
        """One dictionary a row, without the totals."""
        return [dict(zip((column.key for column in self.columns), row, strict=True)) for row in self.rows]


def write(table: Table, fmt: Format) -> str:
    """The table in this format, ending in a newline."""
    match fmt:
        case "text":
            return _text(table)
        case "markdown":
            return _markdown(table)
        case "csv":
            return _csv(table)
        case "json":
            return json_text({"title": table.title, "rows": table.records(), "totals": _totals_record(table)})
        case "latex":
            return _latex(table)


def json_text(value: Any) -> str:
    """JSON as this project prints it: indented, names in any script as they are, a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _totals_record(table: Table) -> dict[str, Value] | None:
    return dict(zip((column.key for column in table.columns), table.totals, strict=True)) if table.totals else None


def rounded(value: float | None, digits: int) -> float | None:
    """A number with so many decimals; nothing stays nothing."""
    return None if value is None else round(value, digits)


def percent(share: float, digits: int = 1) -> str:
    """A fraction of one as people read it: ``14.6 %``."""
    return f"{100 * share:.{digits}f} %"


def _cell(value: Value, column: Column) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if column.percent:
        # One decimal would make nothing of a small share.
        return f"{number_text(100 * value, 2)} %" if 0 < abs(value) < 0.001 else percent(value)
    return f"{value:,}" if isinstance(value, int) else number_text(value)


def number_text(value: float, digits: int = 4) -> str:
    """A number with so many digits, whole thousands grouped, and a real minus: ``−1,235``, ``0.01235``."""
    size = f"{abs(value):,.0f}" if 1_000 <= abs(value) < 1e9 else f"{abs(value):.{digits}g}"
    return f"−{size}" if value < 0 else size


def _printed(table: Table) -> list[list[str]]:
    rows = [*table.rows, *([table.totals] if table.totals else [])]
    return [[_cell(value, column) for value, column in zip(row, table.columns, strict=True)] for row in rows]


def _is_left(table: Table, index: int) -> bool:
    return all(row[index] is None or isinstance(row[index], str) for row in table.rows)


def _text(table: Table) -> str:
    body, heads = _printed(table), [column.heading for column in table.columns]
    widths = [max(map(len, cells)) for cells in zip(heads, *body, strict=True)]
    lefts = [_is_left(table, i) for i in range(len(heads))]

    def line(cells: Sequence[str]) -> str:
        aligned = (f"{c:<{w}}" if left else f"{c:>{w}}" for c, w, left in zip(cells, widths, lefts, strict=True))
        return "  ".join(aligned).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [table.title, rule, line(heads), rule, *map(line, body[: len(table.rows)])]
    if table.totals:
        lines += [rule, line(body[-1])]
    return "\n".join([*lines, ""])


def _markdown(table: Table) -> str:
    body = _printed(table)
    if table.totals:
        body[-1] = [f"**{cell}**" if cell else "" for cell in body[-1]]
    rules = [":--" if _is_left(table, i) else "--:" for i in range(len(table.columns))]
    lines = [[column.heading for column in table.columns], rules, *body]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _csv(table: Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    writer.writerows(table.rows)
    if table.totals:
        writer.writerow(table.totals)
    return buffer.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "−": "$-$",
    "→": r"$\to$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "⌈": r"$\lceil$",
    "⌉": r"$\rceil$",
    "⌊": r"$\lfloor$",
    "⌋": r"$\rfloor$",
    "✓": r"$\checkmark$",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
    "–": "--",
    "…": r"\ldots{}",
    "²": "$^2$",
    "₂": "$_2$",
    "½": r"$\frac{1}{2}$",
    "√": r"$\surd$",
    "Σ": r"$\Sigma$",
    "‖": r"$\|$",
    "✗": "no",
    "°": r"$^\circ$",
}


def latex_escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(_LATEX.get(character, character) for character in text)


def _latex(table: Table) -> str:
    body = [[latex_escaped(cell) for cell in row] for row in _printed(table)]
    alignment = "".join("l" if _is_left(table, i) else "r" for i in range(len(table.columns)))
    heads = [latex_escaped(column.heading) for column in table.columns]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{latex_escaped(table.title)}}}",
        f"  \\begin{{tabular}}{{{alignment}}}",
        "    \\toprule",
        f"    {' & '.join(heads)} \\\\",
        "    \\midrule",
        *(f"    {' & '.join(row)} \\\\" for row in body[: len(table.rows)]),
        *(["    \\midrule", f"    {' & '.join(body[-1])} \\\\"] if table.totals else []),
        "    \\bottomrule",
        "  \\end{tabular}",
        "\\end{table}",
    ]
    return "\n".join([*lines, ""])
