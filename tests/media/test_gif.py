"""GIF: which frames are shown and when, their size and their number of colours."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from longtake.media.encode import Encoder
from longtake.media.formats import Quality, WriteMode, output_format
from longtake.media.gif import fit_width
from tests.media.files_out import moving


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
