"""A figure walks on in new frames, and the ground stays as it is."""

import cv2
import numpy as np
import pytest

from longtake.carried.animated_layers import AnimatedLayers
from tests.carried.test_still_ground import COUNT, HEIGHT, WIDTH, scenery, walk

NEW = 24


@pytest.mark.parametrize("speed", [2, -1.5, 1.3])
def test_a_figure_walks_on_over_a_still_ground(speed: float) -> None:
    frames = walk(speed, start=40 if speed > 0 else 120, count=COUNT + NEW)
    source, truth = np.ascontiguousarray(frames[NEW:]), frames[:NEW][::-1] / np.float32(255)
    layers = AnimatedLayers.of(source)
    assert layers is not None
    for distance in (0, 5, NEW - 1):
        made = layers.drawn(distance + 1)
        error = np.square(made - truth[distance]).mean()
        assert error < 0.1 * np.square(source[0] / np.float32(255) - truth[distance]).mean()
        ground = (truth[distance] * 255).round() == scenery()
        away = cv2.erode(ground.all(axis=-1).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
        assert np.abs(made * 255 - scenery())[away].max() < 8


def test_noise_goes_on() -> None:
    random = np.random.default_rng(0)
    noisy = np.clip(walk(2) + random.normal(0, 4, (COUNT, HEIGHT, WIDTH, 3)), 0, 255).round().astype(np.uint8)
    layers = AnimatedLayers.of(noisy)
    assert layers is not None
    one, other = (layers.drawn(steps)[:15] * 255 for steps in (4, 5))
    assert 1.5 < np.abs(one - other).mean() < 6


def test_a_source_is_refused_whose_last_frames_are_not_foretold() -> None:
    frames = walk(2)
    stopped = np.concatenate([np.repeat(frames[:1], 6, axis=0), frames])
    turned = np.concatenate([frames[8:0:-1], frames])
    entering = walk(1, start=-20)
    moved = np.stack([np.roll(frame, 3 * number, axis=1) for number, frame in enumerate(frames)])
    for refused in (stopped, turned, entering, moved, frames[:16], frames[:1]):
        assert AnimatedLayers.of(np.ascontiguousarray(refused)) is None


def test_large_frames_are_searched_in_small_ones_first() -> None:
    large = np.stack([cv2.resize(frame, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC) for frame in walk(2)])
    layers = AnimatedLayers.of(large)
    assert layers is not None
    assert layers.ground.shape == (3 * HEIGHT, 3 * WIDTH, 3)
    assert np.allclose(layers.objects[0].cycle.velocity, (6, 0), atol=0.2)
