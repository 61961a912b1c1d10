"""The source's own sound in finished files, decoded by PyAV alone."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import longtake
from longtake.media.encode import Encoder
from longtake.media.formats import OutputType, Quality, output_format
from longtake.media.limits import Limits
from longtake.media.probe import probe
from longtake.media.sniff import sniff
from longtake.media.sound import FADE_SAMPLES
from longtake.media.sound_reader import sound
from tests import raw
from tests.media.sound_files import Track, write

RATE = 48_000
NUM_FRAMES, FRAME_RATE = 36, Fraction(24)
LENGTH = round(NUM_FRAMES * RATE / FRAME_RATE)

SMALL: dict[str, Any] = {"resolution": "480p", "aspect_ratio": "1:1", "first_pass_num_inference_steps": 2}


def music() -> NDArray[np.float32]:
    """Plucked strings at the left and right, and a burst of noise under each: [2, LENGTH]."""
    rng, wave = np.random.default_rng(3), np.zeros((2, LENGTH))
    times = np.arange(RATE // 2) / RATE
    for number, start in enumerate(range(0, LENGTH - times.size, 9000)):
        hertz = 196 * 2 ** (number * 5 % 12 / 12)
        string = sum(np.sin(2 * np.pi * hertz * n * times) * np.exp(-times * (4 + n)) / n for n in range(1, 25))
        noise = rng.standard_normal((2, times.size)) * np.exp(-times * 60)
        wave[:, start : start + times.size] += np.array([[0.25], [0.15]]) * string + 0.02 * noise
    return wave.astype(np.float32)


def written(path: Path, chosen: OutputType, samples: NDArray[np.float32], quality: Quality = "high") -> Path:
    with Encoder(path, output_format(chosen, quality, "fast"), 64, 48, FRAME_RATE) as file:
        file.write_sound(samples)
        file.write(np.zeros((NUM_FRAMES, 48, 64, 3), np.uint8))
    return path


def lag(source: NDArray[np.float32], heard: NDArray[np.float64]) -> int:
    """The number of samples by which `heard` is late."""
    spectra = [np.fft.rfft(side[0], 2 * LENGTH) for side in (source, heard)]
    best = int(np.fft.irfft(spectra[1] * spectra[0].conj()).argmax())
    return best if best < LENGTH else best - 2 * LENGTH


@pytest.mark.parametrize(
    ("chosen", "first_db", "fifth_db"),
    [("X264 (.mp4)", 35, 27), ("VP9 (.webm)", 31, 23), ("PRORES4444 (.mov)", 120, 120)],
)
def test_five_extensions_leave_the_sound(chosen: OutputType, first_db: float, fifth_db: float, tmp_path: Path) -> None:
    own = samples = music()
    losses = []
    for number in range(5):
        path = written(tmp_path / f"{number}{output_format(chosen, 'high', 'fast').suffix}", chosen, samples)
        heard = raw.sound(path)[:, :LENGTH]
        losses.append(raw.loss_db(own, heard))
        assert lag(own, heard) == 0
        video = probe(path, sniff(path), Limits())
        samples = np.concatenate(list(sound(video, 0, LENGTH, RATE, LENGTH)), axis=1)
    assert losses[0] > first_db
    assert losses[4] > fifth_db


@pytest.mark.parametrize("chosen", ["X264 (.mp4)", "VP9 (.webm)"])
def test_a_low_quality_is_one_of_the_picture_alone(chosen: OutputType, tmp_path: Path) -> None:
    own = music()
    low, high = (raw.sound(written(tmp_path / quality, chosen, own, quality)) for quality in ("low", "maximum"))
    np.testing.assert_array_equal(low, high)


def test_a_source_s_surround_sound_is_mixed_at_its_loudness(tmp_path: Path) -> None:
    """A whole request. The second track is left out, and the notes say both."""
    surround = np.concatenate([music(), 0.5 * music()[::-1], 0.3 * music()])
    stereo = Track(music(), codec="aac", bit_rate=64_000)
    source = write(tmp_path / "in.mp4", Track(surround, "5.1", "aac", bit_rate=512_000), stereo, num_frames=NUM_FRAMES)
    with longtake.load("ltxv-tiny") as model:
        result = model.extend(source, tmp_path / "out.mov", prompt="x", new_frames=8, **SMALL)
    mixed, left_out = (
        "The source's 5.1 sound was mixed to stereo.",
        "Of the source's 2 sound tracks, only track 1 was used.",
    )
    assert {mixed, left_out} <= set(result.notes)
    left, right, centre, _, back_left, back_right = raw.sound(source)
    plain = np.stack([left + 0.7071 * (centre + back_left), right + 0.7071 * (centre + back_right)])
    heard = raw.sound(result.path)[:, : LENGTH - FADE_SAMPLES]
    assert raw.loss_db(plain[:, : heard.shape[1]], heard) > 60
