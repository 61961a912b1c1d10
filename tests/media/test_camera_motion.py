"""A drawn picture that moves as a whole goes on moving."""

import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.media.camera_motion import CameraMotion, earlier_places
from longtake.media.optical_flow import sampled
from recipes.tiny.render import render
from recipes.tiny.world import Kind, sample

SOURCE, NEW = 33, 24


def frames(seed: int, kind: Kind) -> NDArray[np.uint8]:
    """The frames of a scene, two drawn pixels per pixel of the toy world, [T, H, W, 3]."""
    shown = sample(900_000_500 + seed, kind, (112, 64), SOURCE + NEW)
    return ((render([shown], 2)[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()


def of_source(film: NDArray[np.uint8]) -> CameraMotion | None:
    return CameraMotion.of(np.ascontiguousarray(film[:SOURCE][::-1]))


def psnr(made: NDArray[np.float32], true: NDArray[np.uint8]) -> float:
    return float(-10 * np.log10(np.square(made - true / 255).mean()))


@pytest.mark.parametrize(("seed", "kind"), [(2, "pan"), (1, "pan"), (0, "zoom"), (3, "zoom")])
def test_the_camera_goes_on(seed: int, kind: Kind) -> None:
    film = frames(seed, kind)
    motion = of_source(film)
    assert motion is not None
    made = motion.carried(film[SOURCE:].astype(np.float32), range(NEW))
    near = psnr(film[SOURCE - 1].astype(np.float32) / 255, film[SOURCE + 7])
    assert psnr(made[7], film[SOURCE + 7]) > near + 12


@pytest.mark.parametrize("kind", ["straight", "rotate", "pair", "still"])
def test_a_still_camera_is_not_one_that_moves(kind: Kind) -> None:
    assert of_source(frames(1, kind)) is None


def test_footage_and_pictures_that_do_not_move_steadily_are_left_to_other_rooms() -> None:
    film = frames(0, "zoom")
    noise = np.random.default_rng(0).normal(0, 6, film.shape)
    assert of_source(np.clip(film + noise, 0, 255).astype(np.uint8)) is None
    stopped = np.concatenate([film[:20], np.repeat(film[19:20], 13, axis=0)])
    assert of_source(stopped) is None
    assert CameraMotion.of(film[:7]) is None


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 3)])
def test_any_size_works(size: tuple[int, int]) -> None:
    film = np.random.default_rng(0).integers(0, 255, (SOURCE, *size, 3), np.uint8)
    assert of_source(film) is None


def test_places_follow_the_formula() -> None:
    picture = np.random.default_rng(0).random((20, 30, 3), np.float32)
    motion = np.array([2.0, -1.0, 0.0])
    assert (sampled(picture, earlier_places((20, 30), motion, 3))[10, 5] == picture[7, 11]).all()
    places = earlier_places((21, 31), np.array([0, 0, np.log(2)]), 1)
    assert places[10, 15] == pytest.approx([15, 10])
    assert places[12, 18] == pytest.approx([21, 14])
