"""The figures of joints with known faults."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.inspect.joint import joint_figures, loudness_step, speed

Frames = NDArray[np.uint8]


def pan(count: int, step: float, seed: int = 0, first: int = 0, noise: float = 1.0) -> Frames:
    """Frames [t, 144, 256, 3] of a camera that moves `step` pixels per frame over a cloudy, grainy texture."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.fft2(rng.normal(size=(3, 144, 1024)))
    down, right = np.fft.fftfreq(144)[:, None], np.fft.fftfreq(1024)[None]
    spectrum /= np.hypot(down, right) + 1 / 64
    scale = 40 / np.fft.ifft2(spectrum).real.std()
    moved = [
        np.fft.ifft2(spectrum * np.exp(2j * np.pi * right * step * (first + t))).real[:, :, :256] for t in range(count)
    ]
    frames = 128 + scale * np.stack(moved).transpose(0, 2, 3, 1)
    grainy: Frames = (frames + rng.normal(0, noise, frames.shape)).clip(0, 255).round().astype(np.uint8)
    return grainy


def test_a_clean_continuation_has_neutral_figures() -> None:
    clip = pan(16, 2)
    figures = joint_figures(clip[:8], clip[8:])
    assert figures.colour_shift < 3 * figures.usual_colour_shift
    assert figures.sharpness_ratio == pytest.approx(1, abs=0.02)
    assert figures.difference_ratio == pytest.approx(1, abs=0.05)
    assert figures.motion_ratio == pytest.approx(1, abs=0.05)
    assert figures.loudness_step_db is None


def test_a_cut_changes_the_difference() -> None:
    figures = joint_figures(pan(8, 0.2, noise=0), pan(8, 0.2, seed=1, noise=0))
    assert figures.difference_ratio > 5
    assert figures.motion_ratio == pytest.approx(1, abs=0.1)


def test_a_colour_cast_changes_only_the_colour() -> None:
    clip = pan(16, 2)
    figures = joint_figures(clip[:8], (clip[8:].clip(10, 245) + np.array([6, -3, 0])).astype(np.uint8))
    assert figures.colour_shift == pytest.approx(3, abs=0.3)
    assert figures.usual_colour_shift < 0.2
    assert figures.difference_ratio == pytest.approx(1, abs=0.1)
    assert figures.sharpness_ratio == pytest.approx(1, abs=0.05)


def test_a_frozen_picture_changes_motion_and_difference() -> None:
    clip = pan(8, 2)
    figures = joint_figures(clip, np.repeat(clip[-1:], 8, axis=0))
    assert figures.difference_ratio == 0
    assert figures.motion_ratio < 0.1


def test_soft_frames_change_the_sharpness() -> None:
    clip = pan(16, 2).astype(np.float32)
    soft = (clip + np.roll(clip, 1, 1) + np.roll(clip, 1, 2) + np.roll(clip, (1, 1), (1, 2))) / 4
    figures = joint_figures(clip[:8].astype(np.uint8), soft[8:].astype(np.uint8))
    assert figures.sharpness_ratio < 0.8
    assert joint_figures(soft[:8].astype(np.uint8), clip[8:].astype(np.uint8)).sharpness_ratio > 1.25


@pytest.mark.parametrize(("before", "after"), [(2.0, 4.0), (4.0, 1.0), (3.0, -3.0)])
def test_a_change_of_speed_changes_the_motion(before: float, after: float) -> None:
    figures = joint_figures(pan(6, before), pan(6, after, first=3))
    assert figures.motion_ratio == pytest.approx(abs(after) / before, rel=0.1)


@pytest.mark.parametrize("step", [0.0, 0.5, 1.0, 3.5, 10.0])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_speed_is_that_of_the_camera(step: float, noise: float) -> None:
    assert speed(pan(4, step, noise=noise)) == pytest.approx(step, abs=0.15)


def test_speed_does_not_depend_on_the_resolution() -> None:
    large = pan(4, 2).repeat(4, axis=1).repeat(4, axis=2)
    assert speed(large) == pytest.approx(2, abs=0.1)


def test_flat_pictures_and_tiny_ones_do_not_move() -> None:
    assert speed(np.full((4, 64, 64, 3), 90, np.uint8)) == 0
    assert speed(np.full((4, 10, 14, 3), 90, np.uint8)) == 0


def test_still_videos_have_finite_figures() -> None:
    still = np.repeat(pan(1, 0), 8, axis=0)
    figures = joint_figures(still, still)
    assert (figures.colour_shift, figures.difference_ratio, figures.motion_ratio) == (0, 0, 1)
    assert joint_figures(still, (still.clip(0, 250) + 4).astype(np.uint8)).difference_ratio == pytest.approx(4, abs=0.1)


def test_loudness_step() -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(0, 0.1, (2, 48_000)).astype(np.float32)
    sound[:, 24_000:] *= 2
    assert loudness_step(sound, 24_000) == pytest.approx(6.02, abs=0.3)
    clip = pan(4, 1)
    assert joint_figures(clip[:2], clip[2:], sound, 48_000, 0.5).loudness_step_db == pytest.approx(6.02, abs=0.3)
    assert joint_figures(clip[:2], clip[2:], sound, 48_000, 0.25).loudness_step_db == pytest.approx(0, abs=0.3)
    sound[:, 24_000:] = 0
    assert loudness_step(sound, 24_000) is None
    assert loudness_step(sound, 0) is None
    assert loudness_step(sound, 48_000) is None


def test_a_single_frame_on_a_side_is_an_error() -> None:
    with pytest.raises(ValueError, match="two frames on each side, not 1 and 2"):
        joint_figures(pan(1, 0), pan(2, 0))
