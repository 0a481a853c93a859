from __future__ import annotations

from typing import Any

import pytest

from analysis.formats import Column, Table
from app import exports

TABLE = Table(
    "Shares",
    (Column("name", "name"), Column("step", "step"), Column("share", "share", percent=True), Column("norm", "norm")),
    (("first", 1000, 0.0004, 0.00012), ("second", 2000, None, 12.0)),
)


@pytest.mark.parametrize(
    ("digits", "share", "formats"),
    [(None, 0.0004, ["localized", "percent", "localized"]), (4, 0.04, ["localized", "%.4g %%", "%.4g"])],
)
def test_small_numbers_keep_their_digits_where_asked(
    monkeypatch: pytest.MonkeyPatch, digits: int | None, share: float, formats: list[str]
) -> None:
    shown: dict[str, Any] = {}
    monkeypatch.setattr(exports.st, "dataframe", lambda records, **options: shown.update(options, records=records))
    exports.show_frame(TABLE, "shares", digits=digits)
    assert shown["records"] == {
        "name": ["first", "second"],
        "step": [1000, 2000],
        "share": [pytest.approx(share), None],
        "norm": [0.00012, 12.0],
    }
    columns = shown["column_config"]
    assert [columns[name]["type_config"]["format"] for name in ("step", "share", "norm")] == formats
