"""A drawn picture that moves as a whole goes on moving."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried.camera import Camera
from longtake.carried.camera_motion import CameraMotion
from recipes.tiny.render import render
from recipes.tiny.world import Kind, sample
from tests.carried.test_camera_path import drawing
from tests.carried.test_still_parts import BAR, page

SOURCE, NEW = 33, 24


def frames(seed: int, kind: Kind) -> NDArray[np.uint8]:
    """The frames of a scene, two drawn pixels per pixel of the toy world, [T, H, W, 3]."""
    shown = sample(900_000_500 + seed, kind, (112, 64), SOURCE + NEW)
    return ((render([shown], 2)[0].permute(1, 2, 3, 0) + 1) * 127.5).round().byte().numpy()


def of_frames(frames: NDArray[np.uint8]) -> CameraMotion | None:
    camera = Camera.of(frames)
    return CameraMotion.of(camera) if camera else None


def of_source(film: NDArray[np.uint8]) -> CameraMotion | None:
    return of_frames(np.ascontiguousarray(film[:SOURCE][::-1]))


def psnr(made: NDArray[np.float32], true: NDArray[np.uint8]) -> float:
    return float(-10 * np.log10(np.square(made - true / 255).mean()))


@pytest.mark.parametrize(("seed", "kind"), [(2, "pan"), (1, "pan"), (0, "zoom"), (3, "zoom")])
def test_the_camera_goes_on(seed: int, kind: Kind) -> None:
    film = frames(seed, kind)
    motion = of_source(film)
    assert motion is not None
    near = psnr(film[SOURCE - 1].astype(np.float32) / 255, film[SOURCE + 7])
    assert psnr(motion.drawn(8), film[SOURCE + 7]) > near + 12


@pytest.mark.parametrize("kind", ["straight", "rotate", "pair", "still"])
def test_a_still_camera_is_not_one_that_moves(kind: Kind) -> None:
    assert of_source(frames(1, kind)) is None


def test_footage_and_pictures_that_do_not_move_steadily_are_left_to_other_rooms() -> None:
    film = frames(0, "zoom")
    noise = np.random.default_rng(0).normal(0, 6, film.shape)
    assert of_source(np.clip(film + noise, 0, 255).astype(np.uint8)) is None
    stopped = np.concatenate([film[:20], np.repeat(film[19:20], 13, axis=0)])
    assert of_source(stopped) is None
    assert of_frames(film[:7]) is None


@pytest.mark.parametrize("size", [(1, 1), (2, 40), (40, 3)])
def test_any_size_works(size: tuple[int, int]) -> None:
    film = np.random.default_rng(0).integers(0, 255, (SOURCE, *size, 3), np.uint8)
    assert of_source(film) is None


def test_a_page_scrolls_on_under_a_bar_that_stands_still() -> None:
    film = page(bar=True)
    motion = of_frames(film)
    assert motion is not None
    made = motion.drawn(10)
    assert np.abs(made[: BAR - 2] - film[0, : BAR - 2] / 255).mean() < 0.005
    # The page has moved up by ten pixels. Its rows above the lower edge of the bar are hidden now.
    assert np.abs(made[BAR + 2 : -10] - film[0, BAR + 12 :] / 255).mean() < 0.005


def test_a_scale_that_changes_by_the_same_amount_goes_on() -> None:
    picture = drawing(240, 360)
    view = [
        cv2.getRectSubPix(
            cv2.resize(picture, None, fx=s, fy=s, interpolation=cv2.INTER_CUBIC), (224, 128), (180 * s, 120 * s)
        )
        for s in 1 + 0.006 * np.arange(49 + 24)
    ]
    film = (np.clip(view, 0, 1) * 255).round().astype(np.uint8)
    motion = of_frames(np.ascontiguousarray(film[:49][::-1]))
    assert motion is not None
    assert motion.path.law.startswith("even scale")
    made = motion.drawn(24)
    assert psnr(made, film[-1]) > psnr(film[48].astype(np.float32) / 255, film[-1]) + 12
