from __future__ import annotations

import pytest

from alexnet.words import hours_and_minutes, rough_time, size_text, spelled_time, value_text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (5 << 19, "2.5 MiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.1234, "0.12 s"), (9.94, "9.9 s"), (10, "10 s"), (99, "99 s"), (100, "2 min"), (5999, "100 min")),
        *((6000, "1.7 h"), (48 * 3600 - 1, "48.0 h"), (60 * 3600, "2.5 days")),
    ],
)
def test_what_is_not_known_to_the_minute_is_not_said_to_it(seconds: float, text: str) -> None:
    assert rough_time(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min"), (3569, "59 min"), (3600, "1 h 00 min"), (12_000, "3 h 20 min")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert hours_and_minutes(seconds) == text


@pytest.mark.parametrize(("seconds", "said"), [(20.4, "20 seconds"), (2140, "36 minutes"), (7320, "2 hours 2 minutes")])
def test_durations_are_spelled(seconds: float, said: str) -> None:
    assert spelled_time(seconds) == said


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "the machine's"), (True, "yes"), (False, "no"), (0.00001, "1e-05"), (2.0, "2"), (2, "2"), ("cpu", "cpu")],
)
def test_values_of_a_recipe(value: object, text: str) -> None:
    assert value_text(value, "the machine's") == text


def test_numbers_are_written_as_the_place_wants_them() -> None:
    assert value_text(1234.5, number="{:.0f}".format) == "1234"
    assert value_text(1234, number="{:.0f}".format) == "1234"
    assert value_text(True, number="{:.0f}".format) == "yes"
