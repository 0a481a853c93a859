"""Picture files of every kind become one kind of array: (height, width, 3) uint8 RGB.  numpy and pillow only.

Colour profiles are not applied: ImageNet's labels were given, and the nets of 2012 trained, without them.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from alexnet.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

MAX_PIXELS = 178_956_970
"""Largest picture that is decoded, width times height: 537 MB of RGB.

Pillow itself draws the line here (twice its `MAX_IMAGE_PIXELS`).  A file of some kilobytes can claim 65,535×65,535
pixels; on the other hand medium-format cameras do write 150 megapixels.
"""

MAX_BYTES = 1 << 30
"""Largest file that is read at all; an uncompressed picture of `MAX_PIXELS` fits."""

WHITE = (255, 255, 255)
"""What lies behind transparent pixels: drawings and cut-out products on the web were made for white paper.  Dropping
the alpha channel instead would show whatever colour the pixels happen to have where nobody was meant to see them.
"""

FORMATS = (
    *("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "AVIF", "JPEG2000"),
    *("PPM", "TGA", "DIB", "ICO", "PCX", "PSD", "QOI", "SGI"),
)
"""Formats that are tried, by content and never by suffix: ImageNet has a PNG named .JPEG.

Pillow knows more, which are left out because it starts another program for them (EPS: Ghostscript), reads them on one
system only (WMF) or has no decoder of its own (GRIB, HDF5, MPEG).
"""

SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".tif", ".tiff", ".webp", ".bmp", ".dib"),
        *(".avif", ".jp2", ".j2k", ".jpx", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".pcx", ".psd", ".qoi"),
        ".sgi",
    )
)
"""Suffixes, in lower case, by which a folder's pictures are told from its other files."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation; 1 and unknown values change nothing."""

_FROM_16_BITS = ((np.arange(65_536) + 128) // 257).astype(np.uint8)
"""round(v / 257): 65,535 becomes 255, and what was 8 bits wide before (v = 257·k) comes back exactly."""


class UnreadableImageError(UserError):
    """A file holds no picture that can be decoded; `name` is the file and `problem` what is wrong with it."""

    def __init__(self, name: str, problem: str) -> None:
        # Both go into `args`, so that the error survives pickling on its way out of a worker process.
        super().__init__(name, problem)
        self.name, self.problem = name, problem

    def __str__(self) -> str:
        return f"{self.name}: {self.problem}"


def decode(file: Path | bytes | BinaryIO, *, name: str | None = None, at_least: int | None = None) -> Pixels:
    """The picture in a file as (height, width, 3) uint8 RGB, upright, writable, in memory of its own.

    EXIF orientation is applied; of several frames the first counts; transparent pixels lie on white; 16-bit, 32-bit
    and floating-point grey is scaled to 8 bits, never clipped (`_eight_bits`).  Errors call the file `name`.

    `at_least` says that nothing larger than a short side of that many pixels is wanted.  A JPEG is then decoded at
    1/2, 1/4 or 1/8 of its size, which costs that much less, but only while the short side keeps twice `at_least`:
    the JPEG library leaves out high frequencies block by block, and the resampling that follows still averages two
    pixels or more into one, which hides the difference (0.8 levels of 255 on average over photographs).

    Raises:
        UnreadableImageError: the file is missing, empty, truncated, damaged, too large or no picture.
        OSError: the disk failed, not the file: too many files are open, a network drive went away.
    """
    if at_least is not None and at_least < 1:
        raise ValueError(f"at_least must be 1 pixel or more, got {at_least}")
    label = name or (str(file) if isinstance(file, Path) else "picture")
    data = _contents(file, label)
    if not data:
        raise UnreadableImageError(label, "zero bytes")
    _silence_pillow()
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise _too_large(label, f"{width}×{height} pixels")  # noqa: TRY301  it has to stand before the decoding
            if at_least is not None:
                image.draft(None, (2 * at_least, 2 * at_least))
            image.load()
            upright = _upright(image)
            wide = upright.mode[0] in "IF"  # I, I;16, I;16B, F
            return _eight_bits(upright, image.format) if wide else np.array(_rgb(upright))
    except UnreadableImageError:
        raise
    except Image.DecompressionBombError as error:  # before our own look at the size, or in a picture inside the picture
        raise _too_large(label, _one_line(error)) from error
    except UnidentifiedImageError as error:
        raise UnreadableImageError(
            label, f"not a picture, or damaged within its header; it starts with {data[:12]!r}"
        ) from error
    except MemoryError as error:
        raise UnreadableImageError(label, "decoding needs more memory than there is") from error
    except Exception as error:
        # Pillow's decoders answer bad bytes with OSError, SyntaxError, ValueError, KeyError, struct.error and more.
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            raise UnreadableImageError(label, "truncated: the file ends before the picture does") from error
        raise UnreadableImageError(label, f"damaged: {_one_line(error)}") from error


def square(image: Pixels, side: int) -> Pixels:
    """The central square of a picture, rescaled to (side, side, 3): section 2 of the paper, "down-sampled".

    The square is as wide as the short side and starts (long − short)/2 pixels along the long one, rounded down, so an
    odd pixel is left over at the right or bottom.  Cutting whole pixels before rescaling is the same as rescaling the
    short side to `side` and cutting then, except that no rounded long side distorts the picture, that a picture
    already of the right height or width keeps its values exactly, and that a 10×60,000 strip costs no memory.
    The filter still sees the pixels beside the square.

    Bilinear with antialiasing (a triangle two source steps wide, Pillow's BILINEAR): it makes no value that lies
    outside its neighbours, where bicubic rings beside edges, and edges are what conv1 learns.  It is also what the
    common 256-pixel evaluation does.  Smaller pictures are enlarged.
    """
    if side < 1:
        raise ValueError(f"the side must be 1 pixel or more, got {side}")
    height, width = image.shape[:2]
    short = min(height, width)
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short)
    return np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box))


def rescaled_size(image: Pixels, side: int) -> tuple[int, int]:
    """Height and width of a picture whose short side is made `side` pixels; the long one rounds to the nearest."""
    height, width = image.shape[:2]
    short = min(height, width)
    return max(side, round(height * side / short)), max(side, round(width * side / short))


def rescaled_crop(image: Pixels, side: int, top: int, left: int, height: int, width: int) -> Pixels:
    """What `height` × `width` pixels show of the picture once its short side is `side` pixels (VGG, section 3.1).

    `top` and `left` count in the rescaled picture.  Only the part that is wanted is rescaled; the filter is `square`'s.
    """
    rows, columns = rescaled_size(image, side)
    down, right = image.shape[0] / rows, image.shape[1] / columns
    box = (left * right, top * down, (left + width) * right, (top + height) * down)
    box = (box[0], box[1], min(box[2], image.shape[1]), min(box[3], image.shape[0]))  # rounding may reach past
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR, box=box))


def _contents(file: Path | bytes | BinaryIO, label: str) -> bytes:
    # Reading before decoding tells two kinds of OSError apart: the disk's are raised here, Pillow's are about bytes.
    if isinstance(file, bytes):
        data = file
    elif isinstance(file, Path):
        try:
            with file.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
            raise UnreadableImageError(label, f"cannot be opened: {error.strerror}") from error
    else:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _too_large(label, f"more than {MAX_BYTES:,} bytes")
    return data


def _too_large(label: str, what: str) -> UnreadableImageError:
    return UnreadableImageError(label, f"too large: {what}; the limit is {MAX_PIXELS:,} pixels")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _silence_pillow() -> None:
    """Pillow's warnings (large picture, odd EXIF, odd palette) are no news: what cannot be decoded is an error here.

    A filter that stays, because `warnings.catch_warnings` is not safe in threads before Python 3.14: two that overlap
    leave the process ignoring every warning for ever.  Adding it again changes nothing.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(Base.Orientation)
    except Exception:  # noqa: BLE001  a picture with damaged EXIF is still a picture
        return image
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    paper = Image.new("RGB", rgba.size, WHITE)
    paper.paste(rgba, mask=rgba)
    return paper


def _eight_bits(image: Image.Image, file_format: str | None) -> Pixels:
    """Grey wider than 8 bits as RGB.

    16 bits are divided by 257.  32-bit integers and floats have no agreed white: it is the smallest of 1 (floats),
    255 and 65,535 that no value exceeds; where none will do, or values are negative, the picture's own darkest and
    brightest values become 0 and 255.  Values that are not finite become the darkest, NaN, or the extremes, ±∞.
    """
    if image.mode.startswith("I;16"):
        grey = _FROM_16_BITS[np.asarray(image)]
    else:
        values = np.asarray(image, np.float64 if image.mode == "I" else np.float32)
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        # Pillow widens what it calls "I" in a PPM or PNG from 16 bits, however dark the picture.
        whites = (
            (65_535,) if file_format in {"PPM", "PNG"} else (255, 65_535) if image.mode == "I" else (1, 255, 65_535)
        )
        white = next((white for white in whites if high <= white), None) if low >= 0 else None
        if white is not None:
            low, high = 0.0, float(white)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        grey = np.round((values - low) * (255 / ((high - low) or 1))).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
