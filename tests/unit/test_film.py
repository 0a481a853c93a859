from __future__ import annotations

import io
import json
import struct
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.checkpoints import untrained
from alexnet.errors import UserError
from alexnet.probes import Probe, save
from alexnet.runs import RunDirectory
from alexnet.spec import LRN
from alexnet.zoo import network_from
from analysis import film, film_library, film_numbers
from analysis.formats import write
from analysis.kernels import COMPACT
from analysis.lrn import normalise, suppressed_overall, suppressed_shares
from analysis.sheets import kernel_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

NETWORK = network_from("alexnet-2012@67").adapted(classes=3, hidden=8)
SHAPE = (96, 3, 11, 11)


def random_kernels(seed: int, scale: float = 0.1) -> NDArray[np.float16]:
    return (np.random.default_rng(seed).normal(size=SHAPE) * scale).astype(np.float16)


def file(run: Path, step: int) -> Path:
    path = RunDirectory(run).probe_path(step)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def filmed(run: Path, steps: tuple[int, ...] = (0, 1, 2, 4, 8), scale: float = 0.1) -> Path:
    """A run with probes of nothing but kernels, which grow by a half from each to the next."""
    for number, step in enumerate(steps):
        np.savez_compressed(file(run, step), kernels=random_kernels(number, scale * 1.5**number))
    return run


# --- which moments ---------------------------------------------------------------------------------------------------


def test_steps_come_from_names_alone_in_order_and_strangers_are_passed_over(tmp_path: Path) -> None:
    for step in (1_000_000_000, 30, 4, 0, 123_456_789):
        file(tmp_path, step).write_bytes(b"never opened")
    for stranger in (
        *("step-4.npz", "step-0000000010.npz", "step-00000000x.npz", "step-000000007.pt", "picture.png"),
        *(".step-000000011.npz.77.part", "step-٠٠٠٠٠٠٠٠٩.npz", "step-999999999999999999.npz"),
    ):
        (tmp_path / "probes" / stranger).touch()
    assert film.steps(tmp_path) == (0, 4, 30, 123_456_789, 1_000_000_000)


def test_a_run_without_probes_has_no_steps(tmp_path: Path) -> None:
    assert film.steps(tmp_path) == ()
    assert film.steps(tmp_path / "nowhere") == ()
    with pytest.raises(UserError, match="has no probe to show"):
        film.frames(tmp_path, NETWORK)


def test_ten_thousand_names_take_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file(tmp_path, 0)
    names = [f"step-{step:09d}.npz" for step in range(10_000)]
    monkeypatch.setattr(film.os, "listdir", lambda _folder: names[::-1])
    assert film.steps(tmp_path) == tuple(range(10_000))


@pytest.mark.parametrize("most", [2, 3, 10, 400])
@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 399, 400, 401, 1000])
def test_a_thinned_film_has_both_ends_and_no_more_than_asked(count: int, most: int) -> None:
    found = tuple(step * 7 for step in range(count))
    kept = film.thinned(found, most)
    assert kept[0] == found[0]
    assert kept[-1] == found[-1]
    assert len(kept) <= most
    assert len(kept) >= min(count, most // 2)
    assert set(kept) <= set(found)
    if count <= most:
        assert kept == found


def test_a_thinned_film_keeps_its_choice_while_it_grows() -> None:
    earlier, later = film.thinned(range(1000), 400), film.thinned(range(1100), 400)
    assert set(earlier[:-1]) <= set(later)
    assert film.thinned((), 10) == ()
    with pytest.raises(UserError, match="2 moments or more, not 1"):
        film.thinned((1, 2), 1)


def test_only_the_last_block_of_a_film_that_grows_is_new() -> None:
    earlier, later = film.blocks(range(40)), film.blocks(range(41))
    assert [len(block) for block in earlier] == [16, 16, 8]
    assert earlier[:2] == later[:2]
    assert sum(later, ()) == tuple(range(41))


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_moment_is_what_the_trainer_wrote(tmp_path: Path) -> None:
    taken = Probe(NETWORK, torch.randn(2, 3, 67, 67) * 50, label=1).taken(untrained(NETWORK, seed=1).weights)
    save(file(tmp_path, 12), taken)
    moment = film.read(file(tmp_path, 12))
    assert moment.step == 12
    assert moment.label == 1
    for name, array in taken.items():
        kind, _, rest = name.partition("/")
        found = {"map": moment.maps, "before": moment.before, "lrn": moment.lrn}
        if rest:
            np.testing.assert_array_equal(found[kind][rest], array)
    np.testing.assert_array_equal(moment.kernels, taken["kernels"])
    np.testing.assert_array_equal(moment.probabilities, taken["probabilities"])
    np.testing.assert_array_equal(film.read_kernels(file(tmp_path, 12)), taken["kernels"])


def test_a_probe_of_an_older_run_lacks_what_it_lacks(tmp_path: Path) -> None:
    strengths = np.ones((2, 96), np.float32)
    np.savez(file(tmp_path, 0), **{"kernels": random_kernels(0), "lrn/norm1": strengths})  # type: ignore[arg-type]
    moment = film.read(file(tmp_path, 0))
    assert (moment.before, moment.maps, moment.probabilities, moment.label) == ({}, {}, None, None)
    assert film_numbers.summary(moment, NETWORK).probabilities is None


def test_a_label_beyond_the_classes_is_not_known(tmp_path: Path) -> None:
    np.savez(file(tmp_path, 0), probabilities=np.ones(3, np.float32) / 3, label=np.array(3, np.int64))
    assert film.read(file(tmp_path, 0)).label is None


def test_arrays_laid_out_by_columns_are_the_same_arrays(tmp_path: Path) -> None:
    kernels = random_kernels(0)
    np.savez(file(tmp_path, 0), kernels=np.asfortranarray(kernels))
    np.testing.assert_array_equal(film.read(file(tmp_path, 0)).kernels, kernels)


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + content


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def saved(**arrays: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name.replace("__", "/"): array for name, array in arrays.items()})  # type: ignore[arg-type]
    return buffer.getvalue()


WHOLE = saved(kernels=random_kernels(0))
HUGE = "{'descr': '<f2', 'fortran_order': False, 'shape': (96, 3, 11, 1000000000000), }"
HOSTILE = {
    "empty": b"",
    "text": b"not a probe",
    "half": WHOLE[: len(WHOLE) // 2],
    "a byte changed": WHOLE[:5000] + bytes([WHOLE[5000] ^ 255]) + WHOLE[5001:],
    "a bomb": zipped({"kernels.npy": bytes(70 << 20)}),
    "many": zipped({f"{number}.npy": b"" for number in range(300)}),
    "a huge claim": zipped({"kernels.npy": npy(HUGE)}),
    "a negative side": zipped({"kernels.npy": npy(HUGE.replace("1000000000000", "-1"))}),
    "code for a header": zipped({"kernels.npy": npy("__import__('os').getcwd()")}),
    "deep header": zipped({"kernels.npy": npy("(" * 5000)}),
    "a pickle": saved(kernels=np.array([{"a": 1}], object)),
    "text in an array": saved(kernels=np.array([["x"]])),
    "another version": zipped({"kernels.npy": npy(HUGE, version=b"\x09\x00")}),
    "two axes": saved(kernels=np.zeros((3, 3), np.float16)),
    "no kernel": saved(kernels=np.zeros((0, 3, 11, 11), np.float16)),
    "three rows": saved(lrn__norm1=np.zeros((3, 4), np.float32), kernels=np.zeros((3, 3), np.float16)),
    "a flat map": saved(map__norm1=np.zeros(4, np.float16), kernels=np.zeros((3, 3), np.float16)),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_damaged_or_hostile_probe_is_said_in_one_line_and_the_others_are_shown(tmp_path: Path, what: str) -> None:
    filmed(tmp_path, (0, 1, 2))
    file(tmp_path, 1).write_bytes(HOSTILE[what])
    for reader in (film.read, film.read_kernels):
        with pytest.raises(UserError, match="is not a probe that can be shown") as refused:
            reader(file(tmp_path, 1))
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 400
    found = film.frames(tmp_path, NETWORK)
    assert [frame.step for frame in found.frames] == [0, 2]
    assert [step for step, _ in found.left_out] == [1]


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"lrn__norm1": np.zeros((3, 4), np.float32)}, r"lrn/norm1 has the shape \(3, 4\), not two rows"),
        ({"map__conv1": np.zeros(4, np.float16)}, r"map/conv1 has the shape \(4,\)"),
        ({"before__norm1": np.zeros((0, 2, 2), np.float16)}, r"before/norm1 has the shape \(0, 2, 2\)"),
        ({"probabilities": np.zeros((2, 2), np.float32)}, r"probabilities have the shape \(2, 2\)"),
        ({"label": np.zeros(2, np.int64)}, "label is of type int64"),
        ({"label": np.zeros((), np.float32)}, "label is of type float32"),
    ],
)
def test_wrong_shapes_are_named(tmp_path: Path, arrays: dict[str, object], why: str) -> None:
    file(tmp_path, 3).write_bytes(saved(**arrays))
    with pytest.raises(UserError, match=why):
        film.read(file(tmp_path, 3))


def test_a_probe_that_is_gone_or_has_another_name_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is gone"):
        film.read(file(tmp_path, 3))
    with pytest.raises(UserError, match="not named like a probe"):
        film.read(tmp_path / "x.npz")
    file(tmp_path, 4).mkdir()
    with pytest.raises(UserError, match="not a probe that can be shown"):
        film.read(file(tmp_path, 4))


# --- kernels ---------------------------------------------------------------------------------------------------------


def test_frames_have_each_kernel_in_its_own_scale_or_all_in_one(tmp_path: Path) -> None:
    filmed(tmp_path, (0, 5, 9))
    own = film.frames(tmp_path, NETWORK)
    assert [frame.step for frame in own.frames] == [0, 5, 9]
    assert own.screen.names == ("GPU 1", "GPU 2")
    assert [(group.label, group.items[0], group.items[-1]) for group in own.screen.sheet.groups] == [
        ("GPU 1", 0, 47),
        ("GPU 2", 48, 95),
    ]
    for number, frame in enumerate(own.frames):
        np.testing.assert_array_equal(frame.tiles, kernel_tiles(random_kernels(number, 0.1 * 1.5**number)))
    largest = max(float(np.abs(random_kernels(number, 0.1 * 1.5**number)).max()) for number in range(3))
    together = film.frames(tmp_path, NETWORK, scaling="film")
    scale = film.film_scale(largest)
    assert largest <= scale < largest * 2**0.25
    for number, frame in enumerate(together.frames):
        weights = random_kernels(number, 0.1 * 1.5**number).astype(np.float64)
        kernel, channel, row, column = 70, 2, 3, 8
        by_hand = 128 + 127 * weights[kernel, channel, row, column] / scale
        assert abs(float(frame.tiles[kernel, row, column, channel]) - by_hand) <= 0.5
    contrast = [np.abs(frame.tiles.astype(int) - 128).mean() for frame in together.frames]
    assert contrast[2] > 2 * contrast[0]  # growth is seen, by 1.5² here


def test_the_scale_of_a_film_grows_seldom() -> None:
    assert film.film_scale(0.5) == 0.5
    assert film.film_scale(0.501) == film.film_scale(0.59) == pytest.approx(0.5 * 2**0.25)
    assert film.film_scale(0.0) == 1.0


@pytest.mark.parametrize(
    ("kernels", "why"),
    [
        (np.zeros((64, 3, 11, 11), np.float16), "another network's"),
        (np.full(SHAPE, np.nan, np.float16), "no numbers"),
        (np.full(SHAPE, np.inf, np.float16), "no numbers"),
    ],
)
def test_kernels_that_cannot_be_shown_are_left_out_and_named(
    tmp_path: Path, kernels: NDArray[np.float16], why: str
) -> None:
    filmed(tmp_path, (0, 4))
    np.savez(file(tmp_path, 2), kernels=kernels)
    found = film.frames(tmp_path, NETWORK, scaling="film")
    assert [frame.step for frame in found.frames] == [0, 4]
    assert found.left_out[0].step == 2
    assert why in found.left_out[0].reason
    assert film_numbers.summary(film.read(file(tmp_path, 2)), NETWORK).towers == () or "another" in why


def test_a_scaling_that_is_not_known_and_a_network_without_kernels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="kernel or film, not by 'all'"):
        film.frames(filmed(tmp_path), NETWORK, scaling="all")  # type: ignore[arg-type]
    bare = replace(NETWORK, layers=(("flatten", dict(NETWORK.layers)["flatten"]),))
    with pytest.raises(UserError, match="no convolution"):
        film.screen(bare)


def test_a_reel_holds_the_frames_bytes_and_says_when_it_is_another(tmp_path: Path) -> None:
    filmed(tmp_path)
    place = film.screen(NETWORK)
    reel = film.reel(tmp_path, (0, 4, 8), place)
    tiles = np.frombuffer(reel.content, np.uint8).reshape(3, 96, 11, 11, 3)
    for shown, number in zip(tiles, (0, 3, 4), strict=True):
        np.testing.assert_array_equal(shown, kernel_tiles(random_kernels(number, 0.1 * 1.5**number)))
    assert reel == film.reel(tmp_path, (0, 4, 8), place)
    assert (
        len({reel.digest, film.reel(tmp_path, (0, 4, 8), place, 0.5).digest, film.reel(tmp_path, (0, 4), place).digest})
        == 3
    )
    file(tmp_path, 4).write_bytes(b"")
    broken = film.reel(tmp_path, (0, 4, 8), place)
    assert broken.steps == (0, 8)
    assert [left.step for left in broken.left_out] == [4]


def test_one_kernel_has_its_own_film(tmp_path: Path) -> None:
    found = film.frames(filmed(tmp_path), NETWORK)
    tiles, sheet = film.history(found, 50)
    assert [group.label for group in sheet.groups] == ["kernel 50, GPU 2"]
    assert sheet.groups[0].tower == 2
    np.testing.assert_array_equal(tiles[3], kernel_tiles(random_kernels(3, 0.1 * 1.5**3))[50])
    with pytest.raises(UserError, match="no kernel 96: conv1 has 0 to 95"):
        film.history(found, 96)


# --- exports ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", film.KINDS)
def test_an_animation_has_every_frame_and_plays_forever(tmp_path: Path, kind: film.Kind) -> None:
    found = film.frames(filmed(tmp_path), NETWORK)
    with Image.open(io.BytesIO(film.animation(found, kind=kind, title="Kernels,", seconds=2, scale=2))) as opened:
        assert opened.format == kind.upper()
        assert opened.n_frames == 5  # type: ignore[attr-defined]
        assert opened.info["loop"] == 0
        shown = []
        for number in range(5):
            opened.seek(number)
            opened.load()
            shown.append(np.asarray(opened.convert("RGB")).astype(int))
            if kind == "gif":
                assert opened.info["duration"] == (2000 if number == 4 else 400)
    # Somewhere in each picture lies that frame's first kernel, doubled: exactly, or to the nearest of 256 colours.
    for picture, frame in zip(shown, found.frames, strict=True):
        tile = np.repeat(np.repeat(frame.tiles[0], 2, 0), 2, 1).astype(int)
        windows = np.lib.stride_tricks.sliding_window_view(picture, (22, 22, 3))[:, :60, 0]
        off = np.abs(windows - tile).mean(axis=(2, 3, 4)).min()
        assert off < (1e-9 if kind == "webp" else 14)


def test_a_long_film_is_thinned_before_it_is_animated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(film, "_ANIMATED", 4)
    content = film.animation(film.frames(filmed(tmp_path), NETWORK), seconds=1, scale=1)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.n_frames == 3  # type: ignore[attr-defined]
        assert opened.info["duration"] == 330


def test_what_cannot_be_animated_is_said(tmp_path: Path) -> None:
    found = film.frames(filmed(tmp_path), NETWORK)
    with pytest.raises(UserError, match="gif or webp, not as 'mp4'"):
        film.animation(found, kind="mp4")  # type: ignore[arg-type]
    empty = film.Film(found.screen, (), ())
    with pytest.raises(UserError, match="no moment"):
        film.animation(empty)
    with pytest.raises(UserError, match="choose 1 or more"):
        film.strip(empty)
    with pytest.raises(UserError, match="choose 1 or more"):
        film.strip(found, 0)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_a_strip_shows_moments_from_the_first_to_the_last(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = film.frames(filmed(tmp_path), NETWORK)
    seen = {}
    original = film.labelled

    def spy(tiles: NDArray[np.uint8], sheet: object, *texts: str, **more: object) -> Image.Image:
        seen["tiles"], seen["labels"] = tiles, [group.label for group in sheet.groups]  # type: ignore[attr-defined]
        return original(tiles, sheet, *texts, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(film, "labelled", spy)
    picture = film.strip(found, count)
    steps = {1: [0], 3: [0, 2, 8], 50: [0, 1, 2, 4, 8]}[count]
    assert seen["labels"] == [f"step {step}, GPU {gpu}" for step in steps for gpu in (1, 2)]
    assert len(seen["tiles"]) == 96 * len(steps)
    assert picture.width > 1000


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_the_suppressed_share_is_one_minus_what_is_left_of_what_would_be() -> None:
    layer = LRN(groups=2)
    a = np.abs(np.random.default_rng(0).normal(size=(8, 5, 6))).astype(np.float32) * 60
    a[3] = 0
    energy = np.zeros_like(a)
    for channel in range(8):
        for other in range(8):
            if abs(channel - other) <= 2 and channel // 4 == other // 4:
                energy[channel] += a[other] ** 2
    b = a / (2 + 1e-4 * energy) ** 0.75
    rms = np.stack([np.sqrt((values.astype(float) ** 2).mean((1, 2))) for values in (a, b)])
    found = film_numbers.suppressed(rms.astype(np.float32), layer)
    untouched = [float(np.sqrt(np.mean((a[channel] * 2**-0.75).astype(float) ** 2))) for channel in range(8)]
    assert found.overall == pytest.approx(1 - rms[1].sum() / sum(untouched), rel=1e-5)
    for channel in range(8):
        if channel == 3:
            assert np.isnan(found.channels[channel])
        else:
            assert found.channels[channel] == pytest.approx(1 - rms[1][channel] / untouched[channel], rel=1e-4)
    # The other page's share is of mean magnitudes; where every value of a map is the same the two are one.
    flat = np.broadcast_to(np.linspace(10, 80, 8, dtype=np.float32)[:, None, None], (8, 4, 4))
    result = normalise(torch.from_numpy(flat.copy()), layer)
    rms = np.stack([np.sqrt((values.astype(float) ** 2).mean((1, 2))) for values in (result.before, result.after)])
    same = film_numbers.suppressed(rms, layer)
    assert same.overall == pytest.approx(suppressed_overall(result), rel=1e-5)
    np.testing.assert_allclose(same.channels, suppressed_shares(result), rtol=1e-4)


@pytest.mark.parametrize(
    ("strengths", "layer"),
    [
        (np.zeros((2, 4), np.float32), LRN()),
        (np.full((2, 4), np.nan, np.float32), LRN()),
        (np.full((2, 4), np.inf, np.float32), LRN()),
        (np.ones((2, 4), np.float32), LRN(k=0.0)),
    ],
)
def test_a_share_that_is_not_defined_is_none(strengths: NDArray[np.float32], layer: LRN) -> None:
    found = film_numbers.suppressed(strengths, layer)
    assert found.overall is None
    assert np.isnan(found.channels).all()


def test_a_summary_has_the_order_of_each_tower(tmp_path: Path) -> None:
    kernels = random_kernels(0).astype(np.float64)
    y, x = np.mgrid[0:11, 0:11]
    for kernel in range(48):  # grey waves in the first tower, noise in the second
        kernels[kernel] = np.sin(0.8 * (x * np.cos(kernel) + y * np.sin(kernel)))
    strengths = np.stack([np.ones(96), np.full(96, 0.5 * 2**-0.75)]).astype(np.float32)
    np.savez(
        file(tmp_path, 7),
        **{  # type: ignore[arg-type]
            "kernels": kernels.astype(np.float16),
            "lrn/norm1": strengths,
            "lrn/norm2": strengths,  # of another network: norm2 has 256 channels
            "lrn/elsewhere": strengths,
        },
    )
    one = film_numbers.summary(film.read(file(tmp_path, 7)), NETWORK)
    assert set(one.suppressed) == {"norm1"}
    assert one.suppressed["norm1"].overall == pytest.approx(0.5, rel=1e-5)
    assert set(one.order) == set(film_numbers.MEASURES) - {"change"} == set(film_numbers.HEADINGS) - {"change"}
    assert set(film_numbers.EXPLANATIONS) == set(film_numbers.MEASURES)
    waves, noise = zip(*one.order.values(), strict=True)
    compact, rough, colour, norm = waves
    assert compact == 1.0
    assert rough < 1
    assert colour == pytest.approx(0, abs=1e-6)
    assert norm == pytest.approx(np.median(np.linalg.norm(kernels[:48].reshape(48, -1), axis=1)), rel=1e-3)
    compact, rough, colour, norm = noise
    assert compact == 0.0
    assert rough == pytest.approx(4 * 10 / 11, rel=0.05)
    assert colour == pytest.approx(2 / 3, abs=0.02)
    assert COMPACT == 0.8  # the explanation says so


def test_the_change_is_the_length_of_the_difference_over_the_length_before() -> None:
    earlier = np.zeros((2, 1, 1, 2))
    earlier[0, 0, 0] = 3, 4
    later = earlier.copy()
    later[0, 0, 0] = 3, 4.5
    later[1, 0, 0] = 1, 1
    found = film_numbers.change(10, earlier, 20, later, 2)
    assert found.shares == (pytest.approx(0.1), None)
    assert found.per_step == (pytest.approx(0.01), None)
    assert film_numbers.change(0, earlier, 1, later, 1).shares == (pytest.approx(np.sqrt(0.25 + 2) / 5),)
    with pytest.raises(UserError, match="cannot be compared"):
        film_numbers.change(0, earlier, 1, later[:1], 1)
    with pytest.raises(UserError, match="step 1 does not come after step 1"):
        film_numbers.change(1, earlier, 1, later, 1)


def test_changes_pass_over_what_cannot_be_read(tmp_path: Path) -> None:
    filmed(tmp_path, (0, 2, 4))
    file(tmp_path, 2).write_bytes(b"")
    (one,) = film_numbers.changes(tmp_path, (0, 2, 4), film.screen(NETWORK))
    old, new = random_kernels(0, 0.1).astype(float), random_kernels(2, 0.225).astype(float)
    assert (one.since, one.step) == (0, 4)
    for tower in range(2):
        part = slice(48 * tower, 48 * tower + 48)
        expected = np.sqrt(((new[part] - old[part]) ** 2).sum() / (old[part] ** 2).sum())
        assert one.shares[tower] == pytest.approx(expected, rel=1e-6)


def summaries() -> list[film_numbers.Summary]:
    share = {"norm1": film_numbers.Suppressed(0.25, np.array([0.2, 0.3]))}
    none: list[film_numbers.Summary] = [film_numbers.Summary(0, (), {}, None, None)]
    rows = ([0.1, 0.2, 0.7, 0.0], [0.3, 0.05, 0.05, 0.6])
    return none + [
        film_numbers.Summary(step, (), share, np.array(row, np.float32), 1)
        for step, row in zip((3, 9), rows, strict=True)
    ]


def test_the_classes_to_follow_are_the_true_one_and_the_likeliest_at_the_end() -> None:
    random = np.random.default_rng(0)
    for label, final in ((4, (2, 9, 17)), (9, (9, 17, 4)), (None, (30, 1, 0))):
        rows = [random.uniform(0, 0.1, 40).astype(np.float32) for _ in range(2)]
        for place, index in enumerate(final):
            rows[-1][index] = 0.9 - 0.1 * place
        found = [film_numbers.Summary(step, (), {}, row, label) for step, row in enumerate(rows)]
        followed = film_numbers.contenders(found, 2)
        others = [index for index in final if index != label][:2]
        assert followed == tuple(sorted([*others, *([] if label is None else [label])]))
        # At an earlier moment others are the likeliest, and as many: a table keeps its columns.
        assert len(film_numbers.contenders(found[:1], 2)) == len(followed)
    assert film_numbers.contenders(summaries(), 2) == (0, 1, 2, 3)  # so few can all be followed
    assert film_numbers.contenders(summaries()[:1]) == ()
    rows = film_numbers.probabilities(summaries(), 4)
    assert np.isnan(rows[0]).all()
    np.testing.assert_allclose(rows[2], [0.3, 0.05, 0.05, 0.6], rtol=1e-6)


def test_the_strongest_channels_come_in_the_layers_order() -> None:
    maps = np.zeros((5, 2, 2), np.float16)
    maps[1], maps[4], maps[2, 0, 0] = 3, -5, 1
    moment = film.Moment(0, None, {"norm1": maps}, {}, {}, None, None)
    assert film_numbers.strongest(moment, "norm1", 2) == (1, 4)
    assert film_numbers.strongest(moment, "norm1", 3) == (1, 2, 4)


def test_tables_hold_raw_values(tmp_path: Path) -> None:
    filmed(tmp_path, (0, 2))
    place = film.screen(NETWORK)
    found = [film_numbers.summary(film.read(file(tmp_path, step)), NETWORK) for step in (0, 2)]
    table = film_numbers.order_table(found, film_numbers.changes(tmp_path, (0, 2), place), place)
    assert [row[:2] for row in table.rows] == [(0, "GPU 1"), (0, "GPU 2"), (2, "GPU 1"), (2, "GPU 2")]
    assert table.rows[0][-2:] == (None, None)
    assert table.rows[2][-2] == 0
    assert table.rows[3][-1] == film_numbers.changes(tmp_path, (0, 2), place)[0].shares[1]
    shares = film_numbers.suppression_table(summaries())
    assert [column.key for column in shares.columns] == ["step", "norm1"]
    assert shares.rows == ((0, None), (3, 0.25), (9, 0.25))
    likely = film_numbers.probability_table(summaries(), (3, 1), ("a", "b", "c", "d"))
    assert [column.heading for column in likely.columns] == ["step", "d", "b"]
    assert json.dumps(likely.rows[1]) == json.dumps((9, float(np.float32(0.6)), float(np.float32(0.05))))
    assert [column.percent for column in shares.columns] == [False, True]


def test_a_small_share_is_written_with_its_digits() -> None:
    for share, said in (
        (0.0004, "0.04 %"),
        (0.0000123, "0.0012 %"),
        (-0.0004, "−0.04 %"),
        (0.5, "50.0 %"),
        (0, "0.0 %"),
    ):
        one = film_numbers.Summary(0, (), {"norm1": film_numbers.Suppressed(share, np.array([share]))}, None, None)
        table = film_numbers.suppression_table([one])
        assert write(table, "markdown").splitlines()[-1] == f"| 0 | {said} |"
        assert write(table, "csv").splitlines()[-1] == f"0,{share}"


# --- read once --------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the probes opened, in order, each as often as it was."""
    names: list[str] = []
    real = film._read

    def counted(path: Path, wanted: Any) -> Any:
        names.append(path.name)
        return real(path, wanted)

    monkeypatch.setattr(film, "_read", counted)
    return names


def test_three_views_of_a_film_open_each_probe_once(tmp_path: Path, opened: list[str]) -> None:
    filmed(tmp_path, (0, 2, 4))
    file(tmp_path, 3).write_bytes(b"PK")
    steps, place, library = (0, 2, 3, 4), film.screen(NETWORK), film_library.Library()
    for _ in range(2):
        found = library.summaries(tmp_path, steps, NETWORK)
        moved = film_numbers.changes(tmp_path, steps, place, library.kernels)
        reel = film.reel(tmp_path, steps, place, None, library.kernels)
        largest = film.reach(tmp_path, steps, library.kernels)
    assert sorted(opened) == [file(tmp_path, step).name for step in steps]
    # And what they say is what is said without.
    assert [one.step for one in found.found] == [0, 2, 4]
    assert moved == film_numbers.changes(tmp_path, steps, place)
    assert reel == film.reel(tmp_path, steps, place)
    assert largest == film.reach(tmp_path, steps)
    (missing,) = found.left_out
    assert missing == reel.left_out[0]
    assert file(tmp_path, 3).name in missing.reason
    for one in found.found:
        wanted = film_numbers.summary(film.read(file(tmp_path, one.step)), NETWORK)
        assert one.order == wanted.order


def test_only_a_probe_that_is_new_or_changed_is_opened_again(tmp_path: Path, opened: list[str]) -> None:
    filmed(tmp_path, (0, 2))
    library = film_library.Library()
    library.summaries(tmp_path, (0, 2), NETWORK, order=False)
    opened.clear()
    np.savez_compressed(file(tmp_path, 2), kernels=random_kernels(7, 0.5))
    np.savez_compressed(file(tmp_path, 9), kernels=random_kernels(8))
    np.testing.assert_array_equal(library.kernels(file(tmp_path, 2)), random_kernels(7, 0.5))
    library.summaries(tmp_path, (0, 2, 9), NETWORK, order=False)
    assert opened == [file(tmp_path, 2).name, file(tmp_path, 9).name]
    file(tmp_path, 2).unlink()
    with pytest.raises(UserError, match="is gone"):
        library.kernels(file(tmp_path, 2))


def test_a_film_that_grows_measures_only_its_new_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []
    real = film_library.order_of

    def counted(moment: film.Moment, network: Any) -> Any:
        measured.append(moment.step)
        return real(moment, network)

    monkeypatch.setattr(film_library, "order_of", counted)
    filmed(tmp_path, (0, 2, 4))
    library = film_library.Library()
    before = library.summaries(tmp_path, (0, 2), NETWORK).found
    after = library.summaries(tmp_path, (0, 2, 4), NETWORK).found
    assert measured == [0, 2, 4]
    assert [one.order for one in after[:2]] == [one.order for one in before]
    assert all(len(one.towers) == 2 for one in after)


def test_a_network_without_convolutions_has_moments_without_order(tmp_path: Path) -> None:
    np.savez(file(tmp_path, 0), probabilities=np.ones(3, np.float32) / 3)
    (one,) = film_library.Library().summaries(tmp_path, (0,), NETWORK).found
    assert one.towers == ()


def test_a_library_holds_no_more_than_it_may(tmp_path: Path, opened: list[str]) -> None:
    filmed(tmp_path, (0, 2, 4))
    library = film_library.Library(most_bytes=150_000)  # two of 70 kB
    for step in (0, 2, 0, 4, 0, 2):  # 2 was asked for longest ago when 4 came
        library.kernels(file(tmp_path, step))
    assert [int(name[5:14]) for name in opened] == [0, 2, 4, 2]


def test_a_library_leaves_the_maps_on_the_disk(tmp_path: Path) -> None:
    taken = Probe(NETWORK, torch.randn(2, 3, 67, 67) * 50, label=1).taken(untrained(NETWORK, seed=1).weights)
    save(file(tmp_path, 12), taken)
    moment, whole = film_library.Library().moment(file(tmp_path, 12)), film.read(file(tmp_path, 12))
    assert (moment.maps, moment.before) == ({}, {})
    assert whole.maps
    assert (moment.step, moment.label) == (12, 1)
    np.testing.assert_array_equal(moment.probabilities, whole.probabilities)
    assert moment.lrn.keys() == whole.lrn.keys() == {"norm1", "norm2"}


def test_without_the_kernels_order_the_rest_is_the_same(tmp_path: Path) -> None:
    filmed(tmp_path, (0,))
    (one,) = film_library.Library().summaries(tmp_path, (0,), NETWORK, order=False).found
    assert (one.step, one.towers) == (0, ())
