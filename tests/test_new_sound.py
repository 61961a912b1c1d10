"""The loudness of new sound over several windows, in finished files that PyAV alone decodes."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import longtake
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from tests import raw
from tests.media.clips import numbered

RATE, FRAMES, NEW = 48_000, 33, 72
"""The new frames need three windows of the small model in the package."""


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rising tone at the left, a steady one at the right. The small model has heard nothing like it."""
    times = np.arange(FRAMES * RATE // 24) / RATE
    rising, steady = (0.3 * np.sin(2 * np.pi * (300 + 200 * times) * times), 0.2 * np.sin(2 * np.pi * 600 * times))
    path = tmp_path_factory.mktemp("source") / "clip.mp4"
    with Encoder(path, output_format("X264 (.mp4)", "high", "fast"), 128, 96, Fraction(24)) as file:
        file.write_sound(np.stack([rising, steady]).astype(np.float32))
        file.write(np.stack([numbered(number, 128, 96) for number in range(FRAMES)]))
    return path


@pytest.fixture(scope="module")
def model() -> longtake.Model:
    return longtake.load("ltx2-tiny")


@pytest.mark.parametrize(
    ("direction", "seed"),
    [
        ("backward", 6),
        *(
            pytest.param(direction, seed, marks=pytest.mark.soak)
            for direction in ("forward", "backward")
            for seed in range(10)
            if (direction, seed) != ("backward", 6)
        ),
    ],
)
def test_silence_does_not_follow_silence(
    model: longtake.Model, clip: Path, direction: str, seed: int, tmp_path: Path
) -> None:
    """A window that continues a quiet window does not make a still quieter one."""
    result = model.extend(
        clip,
        tmp_path / "out.mov",
        prompt="a red circle moving right",
        new_frames=NEW,
        seed=seed,
        extend_direction=direction,
        num_inference_steps=8,
        acceleration="full",
        use_multiscale=False,
    )
    heard, new = raw.sound(result.path), NEW * RATE // 24
    last = heard[:, : new // 3] if direction == "backward" else heard[:, -new // 3 :]
    assert 20 * np.log10(np.sqrt(np.mean(last**2)) + 1e-6) > -40, "the window that was sampled last is silent"
