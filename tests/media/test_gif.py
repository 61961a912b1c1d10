"""GIF: which frames are shown and when, their size and their number of colours."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from longtake.media.encode import Encoder
from longtake.media.formats import Quality, WriteMode, output_format
from longtake.media.gif import fit_width
from tests.media.files_out import moving

QUALITIES: tuple[Quality, ...] = ("low", "medium", "high", "maximum")
MODES: tuple[WriteMode, ...] = ("fast", "balanced", "small")


def make(
    path: Path,
    num_frames: int,
    rate: Fraction,
    quality: Quality = "maximum",
    mode: WriteMode = "fast",
    width: int = 64,
) -> Image.Image:
    with Encoder(path, output_format("GIF (.gif)", quality, mode), width, 48, rate) as file:
        file.write(moving(num_frames, 48, width))
    return Image.open(path)


def delays_ms(image: Image.Image) -> list[int]:
    found = []
    for index in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(index)
        image.load()
        found.append(int(image.info["duration"]))
    return found


@pytest.mark.parametrize(
    ("rate", "quality", "count"),
    [
        (Fraction(24), "maximum", 25),
        (Fraction(24_000, 1001), "high", 25),
        (Fraction(60), "maximum", 21),
        (Fraction(24), "low", 14),
        (Fraction(10), "low", 25),
        (Fraction(25, 2), "medium", 25),
    ],
)
def test_number_and_times_of_frames(tmp_path: Path, rate: Fraction, quality: Quality, count: int) -> None:
    """Of 25 frames those above the maximum rate are left out; the GIF is as long as the video to 1/100 s."""
    delays = delays_ms(make(tmp_path / "a.gif", 25, rate, quality))
    assert len(delays) == count
    assert min(delays) >= 20
    assert abs(sum(delays) - 25_000 / rate) <= (20 if delays[-1] == 20 else 5)
    shown = min(rate, Fraction(25, 2) if quality in ("low", "medium") else Fraction(50))
    starts = np.cumsum([0, *delays[:-1]])
    assert all(abs(start - 1000 * n / shown) <= 5 for n, start in enumerate(starts))


def test_every_second_frame_is_shown_at_half_the_rate(tmp_path: Path) -> None:
    """Each frame has its number as its grey."""
    frames = np.empty((21, 48, 64, 3), np.uint8)
    frames[:] = (np.arange(21) * 12)[:, None, None, None]
    with Encoder(tmp_path / "a.gif", output_format("GIF (.gif)", "low", "fast"), 64, 48, Fraction(25)) as file:
        file.write(frames)
    image = Image.open(tmp_path / "a.gif")
    greys = []
    for index in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(index)
        greys.append(np.asarray(image.convert("RGB")).mean())
    assert np.abs(np.array(greys) - np.arange(0, 21, 2) * 12).max() < 4


def test_a_still_video_has_its_full_length(tmp_path: Path) -> None:
    still = np.repeat(moving(1, 48, 64), 12, axis=0)
    with Encoder(tmp_path / "a.gif", output_format("GIF (.gif)", "maximum", "fast"), 64, 48, Fraction(25)) as file:
        file.write(still)
    assert sum(delays_ms(Image.open(tmp_path / "a.gif"))) == 480


@pytest.mark.parametrize(
    ("quality", "mode", "width"),
    [
        ("low", "fast", 480),
        ("low", "small", 360),
        ("high", "balanced", 640),
        ("maximum", "fast", 1000),
        ("maximum", "small", 960),
    ],
)
def test_the_width_is_limited(tmp_path: Path, quality: Quality, mode: WriteMode, width: int) -> None:
    image = make(tmp_path / "a.gif", 3, Fraction(24), quality, mode, width=1000)
    assert image.size == (width, round(48 * width / 1000))


def test_the_number_of_colours_is_limited_and_the_gif_loops(tmp_path: Path) -> None:
    image = make(tmp_path / "a.gif", 9, Fraction(24), "low")
    assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) <= 64
    assert image.info["loop"] == 0


def test_fit_width_keeps_the_aspect() -> None:
    assert fit_width(1248, 704, 480) == (480, 271)
    assert fit_width(300, 200, 480) == (300, 200)
    assert fit_width(4000, 1, 480) == (480, 1)


def shown(path: Path) -> NDArray[np.int64]:
    """The RGB frames [t, H, W, 3] of a GIF, as Pillow decodes them."""
    with Image.open(path) as image:
        frames = []
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(index)
            frames.append(np.asarray(image.convert("RGB"), np.int64))
    return np.stack(frames)


def grainy(num_frames: int) -> NDArray[np.uint8]:
    """Slowly moving waves with fine grain that changes, as from a camera."""
    grain = np.random.default_rng(3).normal(0, 3, (num_frames, 48, 64, 3))
    y, x = np.mgrid[:48, :64]
    waves = np.stack([[np.sin((x + t / 4) / 20), np.cos(y / 15), np.sin((x - y) / 25)] for t in range(num_frames)])
    return (waves.transpose(0, 2, 3, 1) * 80 + 128 + grain).clip(0, 255).round().astype(np.uint8)


def test_write_modes_and_qualities_are_ordered(tmp_path: Path) -> None:
    """Fast files are the largest, small files the smallest. Quality costs space."""
    frames, rate = grainy(10), Fraction(25, 2)
    sizes: dict[tuple[Quality, WriteMode], int] = {}
    errors: dict[tuple[Quality, WriteMode], float] = {}
    for quality in QUALITIES:
        for mode in MODES:
            path = tmp_path / f"{quality}_{mode}.gif"
            with Encoder(path, output_format("GIF (.gif)", quality, mode), 64, 48, rate) as file:
                file.write(frames)
            sizes[quality, mode] = path.stat().st_size
            errors[quality, mode] = float(((shown(path) - frames) ** 2).mean())
    for quality in QUALITIES:
        assert sizes[quality, "fast"] > sizes[quality, "balanced"] > sizes[quality, "small"]
        assert errors[quality, "fast"] <= min(errors[quality, "balanced"], errors[quality, "small"]) * 1.05
    for mode in MODES:
        assert [sizes[q, mode] for q in QUALITIES] == sorted(sizes[q, mode] for q in QUALITIES)
        assert all(errors[more, mode] <= 1.05 * errors[less, mode] for less, more in pairwise(QUALITIES))


def test_a_pixel_keeps_its_colour_up_to_the_tolerance(tmp_path: Path) -> None:
    frames = grainy(12)
    exact, held = tmp_path / "fast.gif", tmp_path / "balanced.gif"
    for path, mode in zip((exact, held), MODES[:2], strict=True):
        with Encoder(path, output_format("GIF (.gif)", "high", mode), 64, 48, Fraction(25)) as file:
            file.write(frames)
    error = np.sqrt(((shown(held) - frames) ** 2).sum(axis=-1))
    nearest = np.sqrt(((shown(exact) - frames) ** 2).sum(axis=-1))
    assert (error <= np.maximum(8, nearest)).all()
    still = (np.diff(shown(held), axis=0) == 0).all(axis=-1).mean()
    assert still > (np.diff(shown(exact), axis=0) == 0).all(axis=-1).mean() + 0.1
