from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from alexnet.data import sources
from alexnet.data.images import UnreadableImageError
from alexnet.data.sources import BUILT_IN, DataError, FolderSource, Source, Splits, lasting, open_data

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]


def make(root: Path, *paths: str) -> Path:
    """Files of these names; pictures are one pixel whose red is the position in the list."""
    for position, path in enumerate(paths):
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() in {".txt", ".csv", ".heic"}:
            file.write_text("no picture")
        else:
            Image.new("RGB", (1, 1), (position, 0, 0)).save(file, "PNG")
    return root


def many(classes: dict[str, int], folder: str = "") -> list[str]:
    return [f"{folder}{name}/{i:03d}.png" for name, count in classes.items() for i in range(count)]


def names(source: Source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def labelled(source: Source) -> dict[str, str]:
    return {source.name(i): source.classes[source.labels[i]] for i in range(len(source))}


# --- train/ and val/ -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("val", ["val", "valid", "validation", "test", "Val"])
def test_a_folder_with_both_splits(tmp_path: Path, val: str) -> None:
    make(
        tmp_path,
        "train/b/2.JPG",
        "train/b/1.png",
        "train/a/deep/er/x.jpeg",
        "train/a/9.PNG",
        f"{val}/a/v.gif",
        f"{val}/b/w.tif",
    )
    splits = open_data(str(tmp_path))
    assert splits.train.classes == splits.val.classes == ("a", "b")
    assert labelled(splits.train) == {
        "train/a/9.PNG": "a",
        "train/a/deep/er/x.jpeg": "a",
        "train/b/1.png": "b",
        "train/b/2.JPG": "b",
    }
    assert names(splits.train) == sorted(names(splits.train))
    assert labelled(splits.val) == {f"{val}/a/v.gif": "a", f"{val}/b/w.tif": "b"}
    assert splits.train.labels.dtype == np.int64
    assert splits.warnings == ()
    assert splits.name == tmp_path.name
    assert f"train/ and {val}/; 4 pictures to train and 2 to validate, 2 classes" in splits.description


def test_every_picture_is_read_by_its_own_position(tmp_path: Path) -> None:
    paths = ["train/a/x.png", "train/a/sub/y.png", "train/b/z.png", "val/a/x.png", "val/b/ü ñ.png"]
    make(tmp_path, *paths)
    splits = open_data(str(tmp_path))
    for source in (splits.train, splits.val):
        for i in range(len(source)):
            assert source.read(i)[0, 0].tolist() == [paths.index(source.name(i)), 0, 0]
    assert splits.val.name(-1) == splits.val.name(1) == "val/b/ü ñ.png"
    with pytest.raises(IndexError):
        splits.val.read(2)


def test_pictures_are_in_order_of_their_whole_path(tmp_path: Path) -> None:
    paths = ["a/a/9.png", "a/b.png", "a/c/0.png", "a/c/d/0.png", "a/c/e.png", "a/z.png"]
    make(tmp_path, *(f"train/{path}" for path in reversed(paths)), "train/b/1.png", "val/a/1.png", "val/b/1.png")
    assert names(open_data(str(tmp_path)).train) == [f"train/{path}" for path in (*paths, "b/1.png")]


def test_of_two_spellings_the_usual_one_counts(tmp_path: Path) -> None:
    make(tmp_path, *(f"{split}/{name}/1.png" for split in ("Train", "train", "VAL", "val") for name in "ab"))
    splits = open_data(str(tmp_path))
    assert splits.train.name(0) == "train/a/1.png"
    assert splits.val.name(0) == "val/a/1.png"
    assert splits.warnings == ("not used: Train/, VAL/",)


def test_val_comes_before_test_and_what_is_not_used_is_named(tmp_path: Path) -> None:
    make(tmp_path, *(f"{split}/{name}/1.png" for split in ("train", "val", "test", "extra") for name in "ab"))
    splits = open_data(str(tmp_path))
    assert names(splits.val) == ["val/a/1.png", "val/b/1.png"]
    assert splits.warnings == ("not used: extra/, test/",)


def test_a_test_set_without_labels_is_left_alone(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 5, "b": 5}, "train/"), "test/1.png", "test/2.png")
    splits = open_data(str(tmp_path))
    assert len(splits.train) + len(splits.val) == 10
    assert splits.warnings == ("not used: test/",)


def test_train_alone_is_divided(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 20, "b": 10}, "train/"))
    splits = open_data(str(tmp_path), seed=7)
    assert "train/ alone, 10 % of each class set apart for validation by seed 7" in splits.description
    assert np.bincount(splits.val.labels).tolist() == [2, 1]
    assert all(name.startswith("train/") for name in names(splits.val))


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    make(tmp_path, *many({"bus": 3, "train": 3}))
    assert open_data(str(tmp_path)).train.classes == ("bus", "train")


def test_a_class_missing_in_val_keeps_its_label(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 1, "b": 1, "c": 1}, "train/"), "val/c/1.png", "val/b/readme.txt")
    splits = open_data(str(tmp_path))
    assert splits.val.classes == ("a", "b", "c")
    assert splits.val.labels.tolist() == [2]
    assert splits.warnings == ("val/ has no picture of a, b: accuracy says nothing about them",)


def test_a_class_that_only_val_has_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 1, "b": 1}, "train/"), *many({"a": 1, "Bee": 1, "zoo": 1}, "val/"))
    with pytest.raises(DataError, match="val/ has classes that train/ has not: Bee, zoo; both need the same folders"):
        open_data(str(tmp_path))


# --- one folder per class --------------------------------------------------------------------------------------------


def test_classes_are_divided_one_by_one(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 50, "b": 10, "c": 3, "d": 2, "e": 1}))
    splits = open_data(str(tmp_path), val_fraction=0.2)
    assert np.bincount(splits.val.labels, minlength=5).tolist() == [10, 2, 1, 1, 0]
    assert np.bincount(splits.train.labels).tolist() == [40, 8, 2, 1, 1]
    assert sorted(names(splits.train) + names(splits.val)) == many({"a": 50, "b": 10, "c": 3, "d": 2, "e": 1})
    assert all(
        name.startswith(f"{label}/")
        for source in (splits.train, splits.val)
        for name, label in labelled(source).items()
    )
    assert splits.warnings == ("one picture only, used for training: e",)
    assert np.bincount(open_data(str(tmp_path), val_fraction=0.99).train.labels).tolist() == [1, 1, 1, 1, 1]


def test_the_division_follows_the_seed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = many({"a": 40, "b": 40})
    forward, backward = make(tmp_path / "x", *files), make(tmp_path / "y", *reversed(files), "c/0.png", "c/1.png")
    chosen = set(names(open_data(str(forward)).val))
    assert len(chosen) == 8
    assert {name for name in names(open_data(str(backward)).val) if name[0] != "c"} == chosen
    assert set(names(open_data(str(forward), seed=1).val)) != chosen
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __enter__(self) -> Iterable[os.DirEntry[str]]:
            with scandir(self.path) as entries:
                return sorted(entries, key=lambda entry: entry.name[::-1], reverse=True)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Shuffled)
    again = open_data(str(forward))
    assert set(names(again.val)) == chosen
    assert names(again.train) == sorted(set(files) - chosen)


def test_the_division_is_this_one_for_ever(tmp_path: Path) -> None:
    """A run that is resumed after an update must not train on what it was validated with."""
    make(tmp_path, *many({"a": 10, "b": 10}))
    assert names(open_data(str(tmp_path), val_fraction=0.2).val) == PINNED


PINNED = ["a/000.png", "a/009.png", "b/001.png", "b/007.png"]
"""By coreutils: printf '0/a\\000%03d.png' $i | b2sum -l 64, and the two smallest of each class."""


def test_an_added_picture_moves_no_more_than_one_other(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 50, "b": 50}))
    before = set(names(open_data(str(tmp_path)).val))
    make(tmp_path, "a/new.png")
    assert len(before - set(names(open_data(str(tmp_path)).val))) <= 1


# --- clutter, links and odd names ------------------------------------------------------------------------------------


def test_hidden_things_and_clutter_are_neither_classes_nor_pictures(tmp_path: Path) -> None:
    make(
        tmp_path,
        *many({"a": 2, "b": 2}),
        *(".ipynb_checkpoints/x.png", "__MACOSX/a/x.png", "a/._000.png", "a/.hidden/x.png", "b/Thumbs.db"),
        *("b/notes.txt", "readme.txt"),
    )
    splits = open_data(str(tmp_path))
    assert splits.train.classes == ("a", "b")
    assert sorted(names(splits.train) + names(splits.val)) == many({"a": 2, "b": 2})
    assert splits.warnings == ()


def test_pictures_beside_the_class_folders_are_left_out_and_named(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 2, "b": 2}), "loose.png", "p.png", "q.png", "r.png")
    assert open_data(str(tmp_path)).warnings == (
        "left out, since they lie in no class's folder: loose.png, p.png, q.png and 1 more",
    )


def test_links_are_followed_and_never_for_ever(tmp_path: Path) -> None:
    make(tmp_path / "store", "cats/1.png", "cats/2.png")
    data = make(tmp_path / "data", *many({"dog": 2}))
    (data / "cat").symlink_to(tmp_path / "store" / "cats")
    (data / "dog" / "up").symlink_to(data)
    (data / "dog" / "self").symlink_to(data / "dog" / "self")
    (data / "dog" / "dead.png").symlink_to(data / "nowhere.png")
    splits = open_data(str(data))
    assert splits.train.classes == ("cat", "dog")
    assert sorted(name for name in names(splits.train) + names(splits.val) if name[0] == "c") == [
        "cat/1.png",
        "cat/2.png",
    ]
    assert splits.warnings == ("left out, since these links lead nowhere: dog/dead.png, dog/self",)
    assert splits.train.read(0).shape == (1, 1, 3)


def test_names_that_are_no_text_can_be_read_and_reported(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 2, "b": 2}))
    odd = os.fsencode(tmp_path / "a") + b"/\xff\xfe\n.png"
    Path(os.fsdecode(odd)).write_bytes((tmp_path / "a" / "000.png").read_bytes())
    splits = open_data(str(tmp_path), val_fraction=0.01)
    everything = names(splits.train) + names(splits.val)
    assert "a/\\xff\\xfe\n.png" in everything
    "".join(everything).encode()
    for source in (splits.train, splits.val):
        assert all(source.read(i).size for i in range(len(source)))


def test_a_picture_that_vanished_is_named(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 2, "b": 2}))
    train = open_data(str(tmp_path)).train
    (tmp_path / train.name(0)).unlink()
    with pytest.raises(UnreadableImageError, match=rf"^{train.name(0)}: cannot be opened: No such file"):
        train.read(0)


def test_the_reduced_size_is_passed_on(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 2, "b": 2}))
    for file in tmp_path.rglob("*.png"):
        Image.new("RGB", (400, 400)).save(file, "JPEG")
    assert open_data(str(tmp_path)).train.read(0, at_least=50).shape == (100, 100, 3)


# --- size ------------------------------------------------------------------------------------------------------------


def test_a_source_is_small_and_survives_pickling(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 30, "b": 30}))
    train = open_data(str(tmp_path)).train
    copy = pickle.loads(pickle.dumps(train))  # noqa: S301
    assert names(copy) == names(train)
    assert np.array_equal(copy.labels, train.labels)
    assert np.array_equal(copy.read(5), train.read(5))
    per_class = 10_000
    files = [f"ILSVRC2012_val_{i:08d}.JPEG".encode() for i in range(per_class)]
    large = sources._Found("train", {"n01440764": files, "n02102040": files}, ()).source(tmp_path)
    assert len(large) == 20_000
    assert large.name(19_999) == "train/n02102040/ILSVRC2012_val_00009999.JPEG"
    assert len(pickle.dumps(large)) < 20_000 * (28 + 16) + 2_000  # a name, an end and a label each


def test_a_spawned_process_reads_it_without_torch(tmp_path: Path) -> None:
    make(tmp_path, *many({"a": 2, "b": 2}))
    (tmp_path / "pickled").write_bytes(pickle.dumps(open_data(str(tmp_path)).train))
    code = (
        "import pickle, sys; s = pickle.load(open(sys.argv[1], 'rb'));"
        "import alexnet.data.cifar, alexnet.data.pack;"
        "print(s.read(1).shape, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "pickled"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 1, 3) False\n"


# --- built-in --------------------------------------------------------------------------------------------------------


def test_the_built_in_pictures_fit_the_same_form() -> None:
    splits = open_data("built-in", seed=3)
    for source in (splits.train, splits.val):
        assert len(source) == len(source.labels)
        assert source.labels.dtype == np.int64
        assert source.read(0).shape[2] == 3
    assert splits.train.classes == splits.val.classes
    assert (splits.name, splits.warnings) == ("built-in", ())
    assert "seed 3" in splits.description
    assert not np.array_equal(splits.train.read(0), open_data("built-in", seed=4).train.read(0))


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([], r"holds no picture \(found: nothing\)"),
        (["readme.txt"], r"holds no picture \(found: 1 \.txt\)"),
        (["a/1.heic", "a/2.heic", "b/x.txt"], r"holds no picture \(found: 2 \.heic, 1 \.txt\)"),
        (["1.png", "2.png"], "holds 2 pictures but no class folders: put the pictures of each class into a folder"),
        (["train/1.png"], "has only one class, 'train'"),
        (["train/a/1.png", "train/b/1.png", "val/1.png"], "holds 1 pictures but no class folders"),
        (["train/a/1.png", "train/b/1.png", "val/a/x.txt"], r"val' holds no picture"),
        (["a/1.png"], "has only one class, 'a'; a classifier needs two"),
        (["train/a/1.png", "val/a/1.png"], "has only one class, 'a'"),
        (["a/1.png", "b/1.png"], "has one picture only: two are needed"),
        (["a/1.png", "b/1.png", "c/x.txt", "d/x.txt"], "no pictures in c/, d/ of .*: fill or remove what is no class"),
        (["train/a/1.png", "train/b/1.png", "train/c/x.txt", "val/a/1.png"], "no pictures in c/"),
        (["val/a/1.png", "test/a/1.png"], "has test/ but no train/: name the folder above both"),
        (["set/train/a/1.png", "set/val/a/1.png"], "has no train/, but set/ in it has: name .*set$"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(tmp_path: Path, files: list[str], problem: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    make(data, *files)
    with pytest.raises(DataError, match=problem) as caught:
        open_data(str(data))
    assert "\n" not in str(caught.value)


def test_a_name_that_lasts_means_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    there = str(tmp_path.resolve() / "pictures")
    assert [lasting(text) for text in ("pictures", "./pictures/", "~/pictures", there)] == [there] * 4
    for text in ("", BUILT_IN, "nowhere", "~nobody-of-that-name/x", "a\0b", "x" * 5000):
        assert lasting(text) == text


@pytest.mark.parametrize("text", ["", "  ", "nowhere/at/all", "a\0b", "~nobody-of-that-name/x"])
def test_what_is_not_there_is_said(text: str) -> None:
    with pytest.raises(DataError, match="built-in"):
        open_data(text)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_the_fraction_must_leave_both_something(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(DataError, match="must lie between 0 and 1"):
        open_data(str(tmp_path), val_fraction=fraction)


def test_a_file_that_is_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"data\.zip' is a file, and no CIFAR archive .*: unpack it"):
        open_data(str(tmp_path / "data.zip"))


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, *many({"a": 2, "b": 2}))
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # tests may run as root, who may everything
    with pytest.raises(DataError, match=r"cannot look into '.*b/?': Permission denied"):
        open_data(str(tmp_path))


def test_texts_of_splits_hold_no_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(tmp_path / "data", *many({"a": 2, "b": 1}), "x.png")
    (data / "a" / "dead.png").symlink_to("/nowhere")
    splits = open_data(str(data))
    assert str(tmp_path) not in repr((splits.name, splits.description, splits.warnings, names(splits.train)))
    monkeypatch.chdir(data)
    assert open_data(".").name == "data"
    assert isinstance(splits, Splits)
    assert isinstance(splits.train, FolderSource)


def test_pictures_to_look_at_may_lie_anywhere(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "deep/er/a.jpg", "c/x.png", "notes.txt")
    found = sources.open_pictures(str(tmp_path))
    assert names(found) == [f"{tmp_path.name}/{name}" for name in ("b.png", "c/x.png", "deep/er/a.jpg")]
    assert found.read(0).shape[2] == 3


def test_pictures_to_look_at_are_both_splits_of_data_that_has_some(tmp_path: Path) -> None:
    built_in = sources.open_data("built-in")
    assert len(sources.open_pictures("built-in")) == len(built_in.train) + len(built_in.val)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        sources.open_pictures(str(tmp_path))
    with pytest.raises(DataError, match="nowhere"):
        sources.open_pictures(str(tmp_path / "nowhere"))
