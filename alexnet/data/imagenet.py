"""ImageNet's 1,000 classes: WordNet numbers, by which its folders are named, and the words for them.

The words are WordNet's (Princeton University), which has "crane" for the bird and for the machine: those two are told
apart by hand.  Standard library only.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def _words() -> dict[str, str]:
    text = (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8")
    return dict(line.split("\t", 1) for line in text.splitlines())


def synsets() -> tuple[str, ...]:
    """The 1,000 WordNet numbers in the order of the classes (that of the folders' names)."""
    return tuple(_words())


def readable(name: str) -> str:
    """The words for a class that is named by its WordNet number, like ``tench`` for n01440764; else the name itself.

    Of several words for one thing the first is taken, with the second where two classes share it (crane, maillot).
    """
    if name not in _words():
        return name
    first, _, others = _words()[name].partition(", ")
    return f"{first}, {others.partition(', ')[0]}" if others and first in _shared() else first


@cache
def _shared() -> frozenset[str]:
    firsts = [words.partition(", ")[0] for words in _words().values()]
    return frozenset(word for word in firsts if firsts.count(word) > 1)
