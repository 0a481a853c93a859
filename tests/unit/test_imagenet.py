from __future__ import annotations

from alexnet.data.imagenet import readable, synsets

IMAGENETTE = {  # fast.ai's own table of its ten classes
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def test_there_are_a_thousand_in_the_order_of_folders() -> None:
    assert len(synsets()) == 1_000
    assert list(synsets()) == sorted(set(synsets()))
    assert (synsets().index("n01440764"), synsets().index("n02102040"), synsets().index("n03888257")) == (0, 217, 701)


def test_numbers_become_words_and_every_class_has_its_own() -> None:
    assert {number: readable(number) for number in IMAGENETTE} == IMAGENETTE
    assert len({readable(number) for number in synsets()}) == 1_000
    assert readable("dog") == "dog"
