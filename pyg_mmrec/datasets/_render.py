"""Item images drawn from known attributes, and a description of images by fixed statistics."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

IMAGE_SIZE = 32

#: Colour names and their red, green and blue in 0..1.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.12),
    "orange": (0.95, 0.52, 0.08),
    "yellow": (0.92, 0.88, 0.15),
    "green": (0.15, 0.78, 0.20),
    "cyan": (0.10, 0.82, 0.85),
    "blue": (0.15, 0.28, 0.92),
    "purple": (0.56, 0.18, 0.88),
    "pink": (0.95, 0.30, 0.68),
}

#: Shape names and the points ``(u, v)``, ``v`` downwards, that they cover; every shape fits the square -1..1.
SHAPES: dict[str, Callable[[Floats, Floats], Bools]] = {
    "circle": lambda u, v: u**2 + v**2 <= 0.9,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.85,
    "triangle": lambda u, v: (v <= 0.8) & (abs(u) <= 0.55 * (v + 0.95)),
    "ring": lambda u, v: abs(np.hypot(u, v) - 0.75) <= 0.25,
    "cross": lambda u, v: (np.minimum(abs(u), abs(v)) <= 0.32) & (np.maximum(abs(u), abs(v)) <= 1.0),
    "star": lambda u, v: np.hypot(u, v) <= 0.7 + 0.3 * np.cos(5 * np.arctan2(u, -v)),
}

#: Texture names and the darkened part at the phases ``(a, b)``, ``a`` along the rows' direction, ``b`` downwards.
TEXTURES: dict[str, Callable[[Floats, Floats], Bools]] = {
    "plain": lambda a, b: np.zeros(a.shape, dtype=bool),
    "horizontal stripes": lambda a, b: np.sin(b) > 0,
    "vertical stripes": lambda a, b: np.sin(a) > 0,
    "diagonal stripes": lambda a, b: np.sin((a + b) / np.sqrt(2)) > 0,
    "checks": lambda a, b: np.sin(a) * np.sin(b) > 0,
    "dots": lambda a, b: np.cos(a) + np.cos(b) > 0.6,
}


def _select(
    functions: dict[str, Callable[[Floats, Floats], Bools]], value: NDArray[np.int64], a: Floats, b: Floats
) -> Bools:
    """Evaluates, for each image, the function that its attribute value names."""
    out = np.zeros(a.shape, dtype=bool)
    for index, function in enumerate(functions.values()):
        rows = np.flatnonzero(value == index)
        out[rows] = function(a[rows], b[rows])
    return out


def render(
    rng: np.random.Generator, colour: NDArray[np.int64], shape: NDArray[np.int64], texture: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Draws one image an item: a coloured, textured shape on a noisy neutral background.

    Position, scale, tilt, tint, texture period and phase, background and pixel noise are random and say nothing about
    the attributes.

    Args:
        rng: Source of the randomness.
        colour: ``[num_items]`` indices into :data:`COLOURS`.
        shape: ``[num_items]`` indices into :data:`SHAPES`.
        texture: ``[num_items]`` indices into :data:`TEXTURES`.

    Returns:
        ``[num_items, 3, 32, 32]`` images.
    """

    def jitter(low: float, high: float, *size: int) -> Floats:
        return rng.uniform(low, high, (colour.size, *(size or (1, 1)))).astype(np.float32)

    y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE].astype(np.float32)[:, None]  # [1, 32, 32] each
    u, v = (x / 15.5 - 1 - jitter(-0.15, 0.15)), (y / 15.5 - 1 - jitter(-0.15, 0.15))
    scale, angle = jitter(0.65, 0.85), jitter(-0.15, 0.15)
    mask = _select(
        SHAPES, shape, (u * np.cos(angle) + v * np.sin(angle)) / scale, (v * np.cos(angle) - u * np.sin(angle)) / scale
    )
    frequency = 2 * np.pi / jitter(5.0, 6.5)
    dark = _select(TEXTURES, texture, x * frequency + jitter(0, 2 * np.pi), y * frequency + jitter(0, 2 * np.pi))
    paint = np.array(list(COLOURS.values()), dtype=np.float32)[colour][:, :, None, None] * jitter(0.85, 1.0, 1, 1, 1)
    paint = (paint + jitter(-0.06, 0.06, 3, 1, 1)) * np.where(dark, np.float32(0.45), np.float32(1.0))[:, None]
    image = np.where(mask[:, None], paint, jitter(0.35, 0.75, 1, 1, 1))
    image += 0.05 * rng.standard_normal(image.shape, dtype=np.float32)
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def image_statistics(image: NDArray[np.uint8]) -> Floats:
    """Describes images by three fixed groups of statistics, each of similar weight.

    The groups are a histogram of hue over the coloured pixels, the coloured area in cells of four by four pixels, and
    the logarithmic power spectrum of brightness in the coloured area, which does not depend on the texture's phase.

    Args:
        image: ``[num_items, 3, 32, 32]``.

    Returns:
        ``[num_items, 311]`` statistics.
    """
    pixel = image.astype(np.float32) / 255
    red, green, blue = pixel[:, 0], pixel[:, 1], pixel[:, 2]
    value, num = pixel.max(axis=1), len(image)
    chroma = value - pixel.min(axis=1)
    front = np.where(chroma > 0.25, np.float32(1), np.float32(0))
    hue = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue) / (2 * np.pi) % 1
    bins = (hue * 16).astype(np.int64) % 16 + 16 * np.arange(num)[:, None, None]
    histogram = np.bincount(bins.ravel(), (front * chroma).ravel(), minlength=16 * num).reshape(num, 16)
    histogram = np.sqrt(histogram / np.maximum(histogram.sum(axis=1, keepdims=True), 1e-6))
    area = front.reshape(num, 8, 4, 8, 4).mean(axis=(2, 4)).reshape(num, 64)
    level = (value * front).sum(axis=(1, 2)) / np.maximum(front.sum(axis=(1, 2)), 1)
    contrast = front * (value / np.maximum(level, 1e-6)[:, None, None] - 1)
    power = np.log1p(abs(np.fft.rfft2(contrast))[:, np.r_[0:11, 22:32], :11]).reshape(num, -1)
    return np.concatenate([histogram, area / 2, power / 8], axis=1, dtype=np.float32)
