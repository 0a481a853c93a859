"""Two sample pictures of our own, of things that the network in the box knows: nobody else's rights are in them.

``python -m app.drawn`` writes them into app/pictures/ again.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIDE = 320
_FINE = 3  # drawn so many times larger, then reduced: edges are smooth
_GORES = ((214, 40, 40), (250, 250, 245), (240, 180, 30), (30, 80, 160))
_LIGHT = np.array([-0.45, -0.6, 0.66])


def parachute() -> Image.Image:
    """A striped parachute in the sky, and somebody under it."""
    side = SIDE * _FINE
    down = np.linspace(0, 1, side)[:, None]
    sky = np.stack([70 + 90 * down, 130 + 80 * down, 205 + 35 * down], -1).repeat(side, 1)
    picture = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    middle, top, radius = side * 0.5, side * 0.42, side * 0.33
    edges = np.linspace(-1, 1, 10)
    arc = np.linspace(0, np.pi / 2, 40)
    for number, (left, right) in enumerate(pairwise(edges)):
        outline = [(middle + radius * left * np.cos(t) ** 0.9, top - 0.8 * radius * np.sin(t)) for t in arc]
        outline += [(middle + radius * right * np.cos(t) ** 0.9, top - 0.8 * radius * np.sin(t)) for t in arc[::-1]]
        outline += [
            (middle + radius * (left + (right - left) * u), top - 0.07 * radius * np.sin(np.pi * u))
            for u in np.linspace(1, 0, 12)
        ]
        shade = 0.72 + 0.28 * np.cos((number - 3) / 9 * 2.2)
        draw.polygon([(float(x), float(y)) for x, y in outline], _inked(_GORES[number % 4], shade))
    low = side * 0.8
    for edge in edges.tolist():
        draw.line([(middle + radius * edge, top), (middle, low)], (60, 60, 70), _FINE)

    def box(left: float, above: float, right: float, below: float) -> tuple[float, float, float, float]:
        return middle + left * _FINE, low + above * _FINE, middle + right * _FINE, low + below * _FINE

    draw.ellipse(box(-9, -4, 9, 14), (60, 50, 45))
    draw.rectangle(box(-9, 12, 9, 34), (40, 60, 50))
    for out in (-1, 1):
        draw.line(box(4 * out, 34, 7 * out, 52), (35, 35, 45), 7 * _FINE)
    return picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _inked(colour: tuple[int, int, int], shade: float) -> tuple[int, int, int]:
    red, green, blue = (round(value * shade) for value in colour)
    return red, green, blue


def golf_ball() -> Image.Image:
    """A ball with dimples, evenly spread in a spiral, on grass."""
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(float)
    radius = SIDE * 0.36
    y, x = (rows - SIDE / 2) / radius, (columns - SIDE / 2) / radius
    beyond = np.hypot(x, y)
    normal = np.stack([x, y, np.sqrt(np.clip(1 - beyond**2, 0, 1))], -1)
    number = np.arange(380) + 0.5
    height, turn = 1 - 2 * number / 380, np.pi * (1 + 5**0.5) * number
    around = np.sqrt(1 - height**2)
    dimples = np.stack([around * np.cos(turn), around * np.sin(turn), height], 1)
    dimples = dimples[dimples[:, 2] > -0.1]
    near = normal @ dimples.T
    closest, cosine = dimples[near.argmax(-1)], near.max(-1)[..., None]
    inside = np.arccos(np.clip(cosine, -1, 1)) < 0.085
    # In a dimple the surface leans inwards, so that its shadow is on the side of the light.
    bent = normal - np.where(inside, 3.2 * (normal - closest * cosine), 0)
    bent /= np.linalg.norm(bent, axis=-1, keepdims=True) + 1e-9
    ball = (80 + 172 * np.clip(bent @ _LIGHT, 0, 1))[..., None] * np.array([1, 1, 0.98])
    blades = np.random.default_rng(3).normal(size=(SIDE, SIDE))
    along, across = np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None]
    blades = np.fft.ifft2(np.fft.fft2(blades) * np.exp(-2 * ((14 * along) ** 2 + (5 * across) ** 2))).real
    blades /= blades.std()
    grass = np.stack([60 + 18 * blades, 125 + 28 * blades, 40 + 12 * blades], -1)
    grass *= 1 - 0.6 * np.exp(-(((x - 0.35) / 1.1) ** 2 + ((y - 0.85) / 0.4) ** 2))[..., None]
    share = np.clip((1 - beyond) * radius, 0, 1)[..., None]
    return Image.fromarray(np.clip(share * ball + (1 - share) * grass, 0, 255).astype(np.uint8))


DRAWINGS = {"parachute": parachute, "golf-ball": golf_ball}


def main() -> None:
    """Write them."""
    for name, drawn in DRAWINGS.items():
        drawn().save(Path(__file__).parent / "pictures" / f"{name}.jpg", quality=92)


if __name__ == "__main__":
    main()
