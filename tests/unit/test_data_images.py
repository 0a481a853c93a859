from __future__ import annotations

import io
import pickle
import random
import struct
import tarfile
import threading
import tracemalloc
import warnings
import zlib
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from alexnet.data import images
from alexnet.data.images import FORMATS, MAX_PIXELS, SUFFIXES, UnreadableImageError, decode, square
from tests.training import imagenette

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    """Twelve JPEG files from Imagenette, 224×224."""
    archive = imagenette()
    with tarfile.open(archive) as tar:
        files = islice((member for member in tar if member.isfile()), 12)
        return [stream.read() for member in files if (stream := tar.extractfile(member))]


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def waves(width: int = 64, height: int = 48) -> Image.Image:
    """Smooth colours, which every lossy format keeps nearly as they are."""
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin(x / 15), 128 + 100 * np.cos(y / 11), 128 + 100 * np.sin((x + y) / 19)]
    return Image.fromarray(np.stack(planes, axis=2).astype(np.uint8))


def grey_png(values: np.ndarray) -> bytes:
    """A 16-bit greyscale PNG written by hand, from its specification."""
    height, width = values.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- formats and modes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM", "TGA", "DIB", "PCX", "QOI", "SGI", "WEBP"])
def test_lossless_formats_come_back_exactly(file_format: str) -> None:
    image = waves()
    options = {"lossless": True} if file_format == "WEBP" else {}
    np.testing.assert_array_equal(decode(encoded(image, file_format, **options)), np.array(image))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_lossy_formats_come_back_nearly(file_format: str) -> None:
    options = {"quality": 95} if file_format in {"JPEG", "WEBP", "AVIF"} else {}
    error = decode(encoded(waves(), file_format, **options)).astype(int) - np.array(waves())
    assert np.abs(error).mean() < 4


def test_a_gif_has_the_colours_of_its_palette() -> None:
    few = waves().quantize(64)
    np.testing.assert_array_equal(decode(encoded(few, "GIF")), np.array(few.convert("RGB")))


def test_the_result_can_be_written_to_and_stands_alone() -> None:
    data = encoded(waves(), "PNG")
    first = decode(data)
    assert first.dtype == np.uint8
    assert first.flags.writeable
    assert first.flags.c_contiguous
    first[:] = 0
    assert decode(data).any()


def test_paths_and_streams_are_read_like_bytes(tmp_path: Path) -> None:
    data = encoded(waves(), "PNG")
    (tmp_path / "wrong.JPEG").write_bytes(data)  # ImageNet has a PNG named .JPEG
    np.testing.assert_array_equal(decode(tmp_path / "wrong.JPEG"), np.array(waves()))
    np.testing.assert_array_equal(decode(io.BytesIO(data)), np.array(waves()))


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGB"])
def test_colour_modes_agree_with_pillow(mode: str) -> None:
    wanted = waves().convert("L") if mode == "1" else waves()
    image = Image.fromarray(np.array(wanted)).convert("L" if mode == "LAB" else mode)
    if mode == "LAB":
        image = Image.merge("LAB", [image] * 3)
    file_format = "TIFF" if mode != "HSV" else "PNG"
    image = image if mode != "HSV" else image.convert("RGB")
    data = encoded(image, file_format)
    with Image.open(io.BytesIO(data)) as reopened:
        assert reopened.mode == image.mode
        np.testing.assert_array_equal(decode(data), np.array(reopened.convert("RGB")))


def test_cmyk_jpegs_have_the_right_colours_though_adobe_inverts_them() -> None:
    """By the formula R = (255 − C)(255 − K)/255, from the ink that the file is made of."""
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[:] = 200, 30, 90, 40
    data = encoded(Image.fromarray(ink, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    by_formula = (255 - ink[0, 0, :3].astype(float)) * (255 - 40) / 255
    np.testing.assert_allclose(decode(data)[8, 8], by_formula, atol=3)


def test_adobes_other_cmyk_with_luma_and_chroma_has_the_right_colours() -> None:
    """ImageNet's are YCCK.  Pillow writes none; the same bytes with Adobe's transform set to 2 are one."""
    luma, blue, red, black = 120, 140, 110, 200
    stored = np.zeros((16, 16, 4), np.uint8)
    stored[:] = 255 - luma, 255 - blue, 255 - red, 255 - black  # Pillow inverts what it writes
    data = bytearray(encoded(Image.fromarray(stored, "CMYK"), "JPEG", quality=100))
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    data[at + 11] = 2
    # JFIF's formula gives the paper's remaining white for cyan, magenta and yellow; the inverted file holds ink.
    ink = luma + np.array([1.402 * (red - 128), -0.344 * (blue - 128) - 0.714 * (red - 128), 1.772 * (blue - 128)])
    np.testing.assert_allclose(decode(bytes(data))[8, 8], (255 - ink) * black / 255, atol=3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_lie_on_white(mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 0])
        image.putpixel((1, 0), 1)
        data = encoded(image, "PNG", transparency=0)
        assert decode(data)[0].tolist() == [[255, 255, 255], [200, 100, 0]]
        data = encoded(image, "PNG", transparency=b"\x80\xff")
        half = [round(255 + (value - 255) * 128 / 255) for value in (10, 20, 30)]
        np.testing.assert_allclose(decode(data)[0], [half, [200, 100, 0]], atol=1)
        return
    image = Image.new("RGBA", (3, 1))
    for x, alpha in enumerate((0, 128, 255)):
        image.putpixel((x, 0), (40, 40, 40, alpha))
    expected = [[255] * 3, [round(40 * 128 / 255 + 255 * 127 / 255)] * 3, [40] * 3]
    np.testing.assert_allclose(decode(encoded(image.convert(mode), "PNG"))[0], expected, atol=1)


def test_a_transparent_colour_of_a_png_lies_on_white() -> None:
    for mode, key, other in (("RGB", RED, GREEN), ("L", 7, 8)):
        image = Image.new(mode, (2, 1), key)  # type: ignore[arg-type]
        image.putpixel((1, 0), other)
        expected = [[255] * 3, list(other) if isinstance(other, tuple) else [other] * 3]
        assert decode(encoded(image, "PNG", transparency=key))[0].tolist() == expected


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 255, 257, 20_000, 40_000, 65_535]])
    expected = [round(int(value) / 257) for value in values[0]]
    assert expected[-1] == 255
    assert decode(grey_png(values))[0, :, 0].tolist() == expected
    for byte_order in ("<", ">"):
        tiff = encoded(Image.fromarray(values.astype(f"{byte_order}u2")), "TIFF")
        assert decode(tiff)[0].tolist() == [[value] * 3 for value in expected]
    pgm = b"P5 6 1 65535\n" + values.astype(">u2").tobytes()
    assert decode(pgm)[0, :, 1].tolist() == expected


def test_a_dark_sixteen_bit_picture_stays_dark() -> None:
    for data in (grey_png(np.full((2, 2), 200)), b"P5 2 2 65535\n" + np.full(4, 200, ">u2").tobytes()):
        assert decode(data).max() == 1


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0.0, 0.5, 1.0], "f4", [0, 128, 255]),
        ([0.0, 100.2, 255.0], "f4", [0, 100, 255]),
        ([0.0, 25_700.0, 65_535.0], "f4", [0, 100, 255]),
        ([-1.0, 0.0, 1.0], "f4", [0, 128, 255]),
        ([0.0, 6e5, 1e6], "f4", [0, 153, 255]),
        ([np.nan, np.inf, 1.0], "f4", [0, 255, 255]),
        ([np.nan, np.nan, np.nan], "f4", [0, 0, 0]),
        ([-7.0, -7.0, -7.0], "f4", [0, 0, 0]),
        ([0, 100, 255], "i4", [0, 100, 255]),
        ([0, 25_700, 65_535], "i4", [0, 100, 255]),
        ([0, 600_000, 1_000_000], "i4", [0, 153, 255]),
        ([-2_000_000_000, 0, 2_000_000_000], "i4", [0, 128, 255]),
    ],
)
def test_values_without_an_agreed_white_are_scaled(values: list[float], dtype: str, expected: list[int]) -> None:
    data = encoded(Image.fromarray(np.array([values], dtype)), "TIFF")
    assert decode(data)[0].tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize("file_format", ["GIF", "TIFF", "WEBP", "PNG", "MPO"])
def test_of_several_frames_the_first_counts(file_format: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_allclose(decode(data)[8, 8], RED, atol=3)


@pytest.mark.parametrize("orientation", range(9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_pictures_are_upright(file_format: str, orientation: int) -> None:
    """EXIF 2.3: the orientation says at which side of the scene the first row and the first column lie."""
    scene = np.zeros((24, 16, 3), np.uint8)
    scene[:8], scene[8:, :8], scene[8:, 8:] = RED, GREEN, BLUE
    stored = {
        2: scene[:, ::-1],  # first row at the top, first column at the right
        3: scene[::-1, ::-1],
        4: scene[::-1],
        5: scene.transpose(1, 0, 2),
        6: np.rot90(scene),  # first row is the scene's right side
        7: scene[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(scene, -1),
    }.get(orientation, scene)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(
        file_format, {}
    )
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), file_format, exif=exif, **options)
    shown = decode(data)
    assert shown.shape == scene.shape
    np.testing.assert_allclose(shown.astype(int), scene, atol=12)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(shown, np.array(ImageOps.exif_transpose(image).convert("RGB")))


def test_damaged_exif_is_no_reason_to_lose_a_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(encoded(waves(), "JPEG", exif=exif))
    at = data.index(b"Exif\0\0") + 6
    for offset in range(14):
        for value in (0, 255):
            damaged = data[: at + offset] + bytes([value]) + data[at + offset + 1 :]
            assert decode(bytes(damaged)).shape in {(48, 64, 3), (64, 48, 3)}


def test_suffixes_are_those_of_the_formats() -> None:
    Image.init()
    known = Image.registered_extensions()
    assert {known[suffix] for suffix in SUFFIXES} <= {*FORMATS, "MPO"}
    assert set(FORMATS) <= set(Image.OPEN)
    assert not {"EPS", "WMF"} & set(FORMATS)


def test_no_program_is_started_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", pytest.fail)
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(UnreadableImageError, match="not a picture"):
        decode(postscript)


# --- what cannot be read ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "zero bytes"),
        (b"hello, world", "not a picture.*hello, world"),
        (b"\xff\xd8\xff\xe0", "not a picture"),
        (b"<!DOCTYPE html><html>", "DOCTYPE"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(UnreadableImageError, match=problem) as caught:
        decode(data, name="train/cat/x.jpg")
    assert str(caught.value).startswith("train/cat/x.jpg: ")
    assert "\n" not in str(caught.value)
    assert caught.value.problem == str(caught.value).removeprefix("train/cat/x.jpg: ")


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"gone\.jpg: cannot be opened: No such file"):
        decode(tmp_path / "gone.jpg")
    with pytest.raises(UnreadableImageError, match="cannot be opened: Is a directory"):
        decode(tmp_path, name="x")


def test_a_failing_disk_is_not_blamed_on_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(OSError, match="Input/output") as caught:
        decode(tmp_path / "x.jpg")
    assert not isinstance(caught.value, UnreadableImageError)


def test_the_error_survives_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImageError("a.jpg", "zero bytes")))  # noqa: S301
    assert (str(error), error.name, error.problem) == ("a.jpg: zero bytes", "a.jpg", "zero bytes")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "BMP", "PPM"])
def test_a_file_cut_in_half_is_truncated(file_format: str) -> None:
    data = encoded(waves(200, 150), file_format)
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(data[: len(data) // 2])


def bomb(side: int) -> bytes:
    """A few bytes of PNG that claim side×side pixels."""
    good = grey_png(np.zeros((1, 1)))
    header = good[12:16] + struct.pack(">II", side, side) + good[24:29]
    return good[:12] + header + struct.pack(">I", zlib.crc32(header)) + good[33:]


@pytest.mark.parametrize("pillows_limit", [89_478_485, None])
def test_bombs_are_refused_by_their_header(pillows_limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableImageError, match=f"too large: .*{MAX_PIXELS:,} pixels"):
            decode(bomb(60_000))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_large_picture_gives_no_warning_and_a_too_large_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(UnreadableImageError, match=r"truncated|damaged"):
            decode(bomb(10_000))  # Pillow warns from 9,460² on
    assert caught == []
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(UnreadableImageError, match="too large: more than 100 bytes"):
        decode(io.BytesIO(encoded(waves(), "PNG")))


def test_warnings_of_others_still_come_through() -> None:
    threads = [threading.Thread(target=decode, args=(encoded(waves(), "JPEG"),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", stacklevel=1)


SAMPLES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "jpeg": ("JPEG", "RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"}),
    "progressive": ("JPEG", "RGB", {"progressive": True}),
    "cmyk": ("JPEG", "CMYK", {}),
    "png": ("PNG", "RGBA", {}),
    "palette png": ("PNG", "P", {"transparency": 3}),
    "grey png": ("PNG", "I;16", {}),
    "gif": ("GIF", "P", {"transparency": 3}),
    "tiff": ("TIFF", "RGB", {}),
    "lzw tiff": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "float tiff": ("TIFF", "F", {}),
    "webp": ("WEBP", "RGBA", {}),
    "bmp": ("BMP", "RGB", {}),
    "avif": ("AVIF", "RGB", {}),
    "jpeg 2000": ("JPEG2000", "RGB", {}),
    "tga": ("TGA", "RGB", {"compression": "tga_rle"}),
    "ico": ("ICO", "RGBA", {}),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_damaged_files_give_a_picture_or_an_unreadable_one(sample: str, capfd: pytest.CaptureFixture[str]) -> None:
    file_format, mode, options = SAMPLES[sample]
    image = waves().convert("L").convert(mode) if mode in {"I;16", "F"} else waves().convert(mode)
    good = encoded(image, file_format, **options)
    decode(good)
    rng = random.Random(sample)  # noqa: S311
    messages = []
    cuts = [good[: len(good) * i // 60] for i in range(60)]
    for _ in range(240):
        damaged = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 10, 40])):
            end = rng.choice([40, 200, len(good)])  # most of what goes wrong is in the header
            damaged[rng.randrange(min(end, len(good)))] = rng.randrange(256)
        cuts.append(bytes(damaged))
    for data in cuts:
        try:
            array = decode(data, name="x", at_least=rng.choice([None, 8]))
        except UnreadableImageError as error:
            messages.append(str(error))
        else:
            assert array.ndim == 3
            assert array.shape[2] == 3
            assert array.size
            assert array.dtype == np.uint8
    assert len(messages) >= 40
    assert all(message.startswith("x: ") and "\n" not in message for message in messages)
    capfd.readouterr()  # libtiff prints its own complaints


def test_real_photographs_damaged_anywhere(photographs: list[bytes]) -> None:
    rng = random.Random(1)  # noqa: S311
    outcomes = set()
    for good in photographs:
        assert decode(good).shape == (224, 224, 3)
        for _ in range(15):
            cut = good[: rng.randrange(len(good) - 200)]
            with pytest.raises(UnreadableImageError, match=r"zero bytes|truncated|not a picture"):
                decode(cut)
            damaged = bytearray(good)
            damaged[rng.randrange(len(good))] ^= rng.randrange(1, 256)
            try:
                outcomes.add(decode(bytes(damaged)).shape[2])
            except UnreadableImageError:
                outcomes.add(0)
    assert outcomes <= {0, 3}


# --- reduced size ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "at_least", "expected"),
    [
        ((1600, 1200), 64, (200, 150)),
        ((1600, 1200), 256, (800, 600)),
        ((1600, 1200), 300, (800, 600)),
        ((1600, 1200), 301, (1600, 1200)),
        ((1023, 4000), 256, (512, 2000)),
        ((1023, 4000), 128, (256, 1000)),
        ((100, 100), 1, (13, 13)),
        ((511, 600), 256, (511, 600)),
    ],
)
def test_large_jpegs_are_decoded_small_but_never_too_small(
    size: tuple[int, int], at_least: int, expected: tuple[int, int]
) -> None:
    if size == (1023, 4000):  # 1023/256 = 3.996, so a quarter would leave 256 where 512 are asked for
        expected = {256: (1023, 4000), 128: (512, 2000)}[at_least]
    height, width, _ = decode(encoded(Image.new("RGB", size), "JPEG"), at_least=at_least).shape
    assert (width, height) == expected
    assert min(width, height) >= min(2 * at_least, *size)


def test_only_jpegs_are_reduced_and_turned_ones_too() -> None:
    assert decode(encoded(Image.new("RGB", (800, 600)), "PNG"), at_least=10).shape == (600, 800, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(Image.new("RGB", (800, 600)), "JPEG", exif=exif), at_least=75).shape == (200, 150, 3)
    with pytest.raises(ValueError, match="at_least must be 1 pixel or more, got 0"):
        decode(b"x", at_least=0)


def test_reduced_decoding_is_hidden_by_the_resampling_that_follows(photographs: list[bytes]) -> None:
    kept, lost = [], []
    for data in photographs:
        full, reduced = decode(data), decode(data, at_least=56)
        assert (full.shape, reduced.shape) == ((224, 224, 3), (112, 112, 3))
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (56, 56))
            unhidden = np.array(image.convert("RGB"))
        assert unhidden.shape == (56, 56, 3)
        wanted = square(full, 56).astype(int)
        kept.append(np.abs(wanted - square(reduced, 56)).mean())
        lost.append(np.abs(wanted - unhidden).mean())
    assert 0 < np.mean(kept) < 1
    assert np.mean(lost) > 2 * np.mean(kept)  # what the factor of two is for


# --- squares ---------------------------------------------------------------------------------------------------------


def brute_force(image: np.ndarray, side: int) -> np.ndarray:
    """A triangle of half-width max(scale, 1) at every output pixel, over the whole picture, in float64."""
    height, width = image.shape[:2]
    short = min(height, width)
    scale, reach = short / side, max(short / side, 1.0)

    def weights(length: int) -> np.ndarray:
        matrix = np.zeros((side, length))
        for out in range(side):
            centre = (length - short) // 2 + (out + 0.5) * scale
            for i in range(length):
                matrix[out, i] = max(0.0, 1 - abs(i + 0.5 - centre) / reach)
            matrix[out] /= matrix[out].sum()
        return matrix

    return np.einsum("yi,ijc,xj->yxc", weights(height), image.astype(float), weights(width))


@pytest.mark.parametrize(
    ("width", "height", "side"), [(40, 30, 16), (31, 52, 16), (53, 20, 20), (9, 7, 16), (1, 1, 8), (100, 3, 5)]
)
def test_the_square_is_the_resampled_centre(width: int, height: int, side: int) -> None:
    image = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    result = square(image, side)
    assert result.shape == (side, side, 3)
    assert result.dtype == np.uint8
    assert result.flags.writeable
    np.testing.assert_allclose(result, brute_force(image, side), atol=1.01)  # Pillow rounds after each of two passes


@pytest.mark.parametrize(("width", "height"), [(64, 64), (65, 64), (64, 67), (500, 64)])
def test_a_picture_of_the_right_height_is_cut_and_not_changed(width: int, height: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    left, top = (width - 64) // 2, (height - 64) // 2
    np.testing.assert_array_equal(square(image, 64), image[top : top + 64, left : left + 64])


def test_it_is_what_rescaling_first_and_cutting_then_gives() -> None:
    """By the paper's words: the short side becomes 256, then the central 256×256 are cut."""
    image = np.array(waves(500, 375))
    resized = Image.fromarray(image).resize((round(500 * 256 / 375), 256), Image.Resampling.BILINEAR)
    left = (resized.width - 256) // 2
    cut = np.array(resized)[:, left : left + 256]
    assert np.abs(square(image, 256).astype(int) - cut).max() <= 3  # the rounded long side moves it by half a pixel


def test_no_value_lies_outside_those_of_the_picture() -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    image[:, 30:] = 200
    image[:, :30] = 50
    for side in (17, 60, 90):
        assert (square(image, side).min(), square(image, side).max()) == (50, 200)


@pytest.mark.parametrize("shape", [(1, 60_000, 3), (60_000, 1, 3)])
def test_an_extremely_long_picture_costs_no_memory(shape: tuple[int, int, int]) -> None:
    assert square(np.full(shape, 9, np.uint8), 256).tolist() == np.full((256, 256, 3), 9).tolist()


def test_a_square_without_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="the side must be 1 pixel or more, got 0"):
        square(np.zeros((2, 2, 3), np.uint8), 0)
