"""Carrying the source's fine detail into new frames that a miniature drew as blurred shapes."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.detail import Detail
from longtake.carried.optical_flow import Pictures

HEIGHT, WIDTH, STEP = 96, 160, 2
"""The size of the pictures, and how many pixels they move to the left from one frame to the next."""


def texture() -> Pictures:
    """A wide picture with detail of several sizes, [96, 400, 3]."""
    noise = np.random.default_rng(1).random((HEIGHT, 400, 3)).astype(np.float32)
    layers = [cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (1.5, 4.0, 12.0)]
    picture: Pictures = np.clip(sum((layer - layer.mean()) / layer.std() for layer in layers) * 0.08 + 0.5, 0, 1)
    return picture


def moving(count: int, first: int = 0) -> Pictures:
    """Frames [count, 96, 160, 3] of a camera that moves steadily to the right."""
    wide = texture()
    return np.stack([wide[:, at : at + WIDTH] for at in range((40 + first) * STEP, (40 + first + count) * STEP, STEP)])


def codes(frames: Pictures) -> NDArray[np.uint8]:
    return (frames * 255).round().astype(np.uint8)


def blurred(frames: Pictures) -> Pictures:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 8) for frame in frames])


def sharpness(frames: Pictures) -> float:
    return float(np.mean(np.square(np.diff(frames, axis=2))))


def error(frames: Pictures, truth: Pictures) -> float:
    return float(np.mean(np.square(frames - truth)))


@pytest.mark.parametrize("forwards", [True, False])
def test_a_blurred_rendition_gets_the_source_s_detail_and_goes_on_as_the_source_moved(forwards: bool) -> None:
    film = moving(29) if forwards else moving(29)[::-1]
    source, truth = film[:17], film[17:]
    detail = Detail.of(codes(source[::-1]), blurred(source[-1:])[0])
    carried = detail.carried(np.repeat(blurred(source[-1:]), 12, axis=0), range(12))
    assert detail.fidelity < 0.2
    assert sharpness(blurred(truth)) < 0.2 * sharpness(truth)
    assert 0.85 < sharpness(carried) / sharpness(source) < 1.15
    inside = np.s_[:, 8:-8, 40:-40]
    assert error(carried[inside], truth[inside]) < 0.3 * error(source[-1:][inside], truth[inside])


def test_frames_of_a_model_that_draws_well_are_kept_where_the_source_s_motion_is_not_known() -> None:
    source, new = moving(1), moving(8, first=30)
    detail = Detail.of(codes(source[::-1]), codes(source[-1:])[0].astype(np.float32) / 255)
    assert detail.carried(new, range(8)) == pytest.approx(new, abs=1e-3)


def disc(at: float) -> NDArray[np.float32]:
    """How much of each pixel is inside of a disc whose middle is `at` pixels from the left, [96, 160]."""
    down, across = np.indices((HEIGHT, WIDTH))
    cover: NDArray[np.float32] = np.clip(14.5 - np.hypot(across - at, down - HEIGHT / 2), 0, 1).astype(np.float32)
    return cover


@pytest.mark.parametrize(("camera", "step"), [("still", 1), ("moving", 0)])
def test_an_object_that_crosses_the_ground_keeps_its_shape_and_hides_the_ground(camera: str, step: int) -> None:
    ground, colour = 0.2 * moving(1 if camera == "still" else 25), np.array([1, 0.2, 0.2], np.float32)
    covers = np.stack([disc(110 - step * at)[..., None] for at in range(25)])
    film = ground + covers * (colour - ground)
    detail = Detail.of(codes(film[4::-1]), film[4])
    carried = detail.carried(np.repeat(film[4:5], 20, axis=0), range(20))
    drawn, true = (frames[-1, ..., 0] > 0.7 for frames in (carried, film))
    assert (drawn & true).sum() > 0.6 * (drawn | true).sum()
    assert 0.85 < drawn.sum() / true.sum() < 1.15


def decoded(name: str) -> Pictures:
    """The frames of an example."""
    with av.open(str(Path(__file__).parents[2] / "examples" / name)) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    return frames.astype(np.float32) / np.float32(255)


def test_what_the_model_draws_close_to_a_steadily_moving_object_is_not_shown() -> None:
    source, truth = decoded("clip.mp4"), decoded("clip_after.mp4")[:12]
    new, ahead = truth.copy(), np.s_[-1, 17:21, 20:23]  # the ball is at 28 to 51 pixels from the left, and moves there
    new[ahead] = (0.9, 0.2, 0.2)
    carried = Detail.of(codes(source[:-18:-1]), source[-1]).carried(new, range(12))
    assert np.abs(carried[ahead] - truth[ahead]).max() < 0.1


def test_in_footage_that_the_model_draws_badly_nothing_of_its_frames_is_seen() -> None:
    source = moving(9)
    detail = Detail.of(codes(source[::-1]), blurred(source[-1:])[0])
    assert detail.fidelity > 0
    one, other = (detail.carried(blurred(moving(2, first=first)), range(2)) for first in (9, 30))
    assert (one == other).all()


def test_without_known_motion_the_model_s_own_is_followed() -> None:
    source, new = moving(1), moving(4, first=1)
    detail = Detail.of(codes(source), blurred(source)[0])
    carried = detail.carried(blurred(new), range(4))
    inside = np.s_[-1, 8:-8, 40:-40]
    assert error(carried[inside], new[inside]) < 0.5 * error(source[0][inside[1:]], new[inside])


def test_the_first_new_frame_differs_from_a_shaky_source_as_much_as_its_frames_from_each_other() -> None:
    wide = texture()
    source = np.stack([wide[:, at : at + WIDTH] for at in np.resize([60, 65, 70], 17)])
    detail = Detail.of(codes(source[::-1]), blurred(source[-1:])[0])
    carried = detail.carried(np.repeat(blurred(source[-1:]), 12, axis=0), range(12))
    at_joint, among_new, in_source = (
        np.abs(np.diff(frames, axis=0)).mean() for frames in (np.stack([source[-1], carried[0]]), carried, source)
    )
    assert 0.5 * in_source < at_joint < 1.5 * in_source
    assert 0.5 * in_source < among_new < 1.5 * in_source


def test_a_still_source_stays_still() -> None:
    source = np.repeat(moving(1), 5, axis=0)
    detail = Detail.of(codes(source), blurred(source)[0])
    carried = detail.carried(blurred(moving(6, first=1)), range(6))
    assert error(carried, np.repeat(source[:1], 6, axis=0)) < 0.1 * error(moving(6, first=1), source[:1])


def test_chunks_are_carried_like_the_whole() -> None:
    source, new = moving(5), blurred(moving(6, first=5))
    detail = Detail.of(codes(source[::-1]), blurred(source[-1:])[0])
    parts = [detail.carried(new[at : at + 2], range(at, at + 2)) for at in range(0, 6, 2)]
    assert (np.concatenate(parts) == detail.carried(new, range(6))).all()


def test_a_black_picture_is_carried() -> None:
    black = np.zeros((5, HEIGHT, WIDTH, 3), np.float32)
    assert not Detail.of(codes(black), black[0]).carried(black, range(5)).any()
