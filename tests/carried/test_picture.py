"""Drawn sources go on by a rule, footage is carried like footage."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.animated_layers import AnimatedLayers
from longtake.carried.camera_motion import CameraMotion
from longtake.carried.detail import Detail
from longtake.carried.optical_flow import as_picture
from longtake.carried.panned_layers import PannedLayers
from longtake.carried.picture import RuledPicture, carried_picture, is_drawing, rule_of
from longtake.carried.slowing_layers import SlowingLayers
from tests.carried.test_panned_layers import zoomed
from tests.carried.test_slowing_layers import COUNT, film
from tests.carried.test_still_ground import walk
from tests.carried.test_still_parts import page


def test_each_kind_of_source_goes_on_in_its_way() -> None:
    jumping, panned = film(slowing=None), np.ascontiguousarray(zoomed()[:33][::-1])
    kinds = (
        (page(bar=True), CameraMotion),
        (panned, PannedLayers),
        (film(), SlowingLayers),
        (jumping, type(None)),
    )
    for frames, kind in kinds:
        blurred = cv2.GaussianBlur(as_picture(frames[0]), (0, 0), 6)
        assert isinstance(rule_of(frames, blurred), kind)
    noise = np.random.default_rng(0).integers(0, 255, (20, 64, 96, 3), np.uint8)
    assert rule_of(noise, as_picture(noise[1])) is None


def test_a_rule_replaces_the_model_s_frames() -> None:
    frames = walk(2)
    made = np.zeros((2, *frames.shape[1:]), np.float32)
    picture = carried_picture(frames, made[0])
    assert isinstance(picture, RuledPicture)
    rule = picture.rule
    assert isinstance(rule, AnimatedLayers)
    assert np.array_equal(picture.carried(made, [0, 5]), np.clip([rule.drawn(1), rule.drawn(6)], 0, 1))


def test_pictures_that_are_shown_twice_go_on_so() -> None:
    """A walk on twos goes on like the walk, at half the rate."""
    frames = walk(2)
    twice = np.repeat(frames, 2, axis=0)[1:]  # the last picture is new in the last frame
    made = np.zeros((4, *frames.shape[1:]), np.float32)
    rule = rule_of(frames, made[0])
    assert rule is not None
    carried = carried_picture(twice, made[0]).carried(made, range(4))
    true = [as_picture(frames[0]), *(rule.drawn(steps) for steps in (1, 1, 2))]
    assert np.array_equal(carried, np.clip(true, 0, 1))


@pytest.mark.parametrize("ticks", [range(0, 49, 12), [3, 4, 9, 17, 18, 29, 33, 34, 46, 47]])
def test_a_drawing_that_jumps_is_not_seen_backwards(ticks: Sequence[int]) -> None:
    """The hand of a clock or the lines of a log: no rule tells the next picture, so the last one stays."""
    frames = np.full((49, 96, 128, 3), 40, np.uint8)
    for number in range(49):
        for line in range(10 - sum(tick <= number for tick in ticks), 10):
            frames[number, 8 * line + 4 : 8 * line + 8, 10 : 40 + 5 * line] = 220
    frames = np.ascontiguousarray(frames[::-1])
    made = np.zeros((3, 96, 128, 3), np.float32)
    assert np.array_equal(carried_picture(frames, made[0]).carried(made, [0, 5, 40]), as_picture(frames[[0, 0, 0]]))


def test_footage_on_twos_stands_still_in_every_other_frame() -> None:
    random = np.random.default_rng(0).integers(0, 255, (12, 64, 96, 3), np.uint8)
    frames = np.repeat(random, 2, axis=0)[1:]
    made = np.full((4, 64, 96, 3), 0.5, np.float32)
    carried = carried_picture(frames, made[0]).carried(made, range(4))
    assert np.array_equal(carried[0], as_picture(frames[0]))
    assert np.array_equal(carried[1:3], Detail.of(random, made[0]).carried(made[:2], [0, 0]))
    assert not np.array_equal(carried[2], carried[3])


@pytest.mark.parametrize("length", [1, 3])
def test_frames_before_a_cut_say_nothing(length: int) -> None:
    random = np.random.default_rng(0)
    scene, other = random.integers(0, 240, (2, 1, 64, 96, 3), np.uint8)
    after, before = (
        one + random.integers(0, 9, (count, 64, 96, 3), np.uint8) for one, count in ((scene, length), (other, 20))
    )
    rendition = as_picture(after[0])
    alone, cut = (
        carried_picture(frames, rendition).carried(rendition[None], [9])
        for frames in (after, np.concatenate([after, before]))
    )
    assert np.array_equal(alone, cut)


@pytest.mark.parametrize("frames", [film(), walk(2)])
def test_a_drawing_that_the_model_draws_well_is_left_to_the_model(frames: NDArray[np.uint8]) -> None:
    assert rule_of(frames, as_picture(frames[0])) is None


@pytest.mark.parametrize("change", ["noise", "texture", "motion"])
def test_footage_is_not_a_drawing(change: str) -> None:
    frames, random = film().astype(np.float32), np.random.default_rng(0)
    assert is_drawing(film())
    if change == "noise":
        frames += random.normal(0, 2, frames.shape)
    elif change == "texture":
        frames += random.normal(0, 6, frames.shape[1:])
    else:
        frames += 60 * np.sin(np.arange(COUNT))[:, None, None, None]
    assert not is_drawing(np.clip(frames, 0, 255).round().astype(np.uint8))


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 3)])
def test_any_size_works(size: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (COUNT, *size, 3), np.uint8)
    assert not is_drawing(frames)
    assert not is_drawing(frames[:1])
