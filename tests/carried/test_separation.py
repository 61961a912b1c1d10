"""A drawn scene is separated into its ground and its objects, and goes on as the toy world does."""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from longtake.carried import separation
from longtake.carried.layers import Frames, Layers, leaves
from longtake.carried.separation import Film
from recipes.tiny.render import render
from recipes.tiny.world import Kind, Scene, sample, track

SOURCE, NEW = 33, 24


def frames(scene: Scene) -> NDArray[np.uint8]:
    """The frames of a scene, two drawn pixels per pixel of the toy world, [T, H, W, 3]."""
    codes = (render([scene], 2)[0].permute(1, 2, 3, 0) + 1) * 127.5
    return codes.round().byte().numpy()


def scene(seed: int, kind: Kind) -> Scene:
    return sample(900_000_500 + seed, kind, (112, 64), SOURCE + NEW)


def separated(film: NDArray[np.uint8], source: int = SOURCE) -> Layers | None:
    layers = separation.separated(Film.of(np.ascontiguousarray(film[:source][::-1])))
    return layers if layers and layers.are_sure else None


def psnr(made: NDArray[np.float32], true: NDArray[np.uint8]) -> float:
    return float(-10 * np.log10(np.square(np.clip(made, 0, 1) - true / 255).mean()))


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_an_object_goes_on_with_its_shape_and_velocity(seed: int) -> None:
    shown = scene(seed, "straight")
    film = frames(shown)
    layers = separated(film)
    assert layers is not None
    velocity = -2 * np.array(shown.things[0].velocity)
    assert np.abs(layers.steps - velocity).sum(axis=1).min() < 0.06
    last = film[SOURCE + NEW - 1]
    frozen = psnr(film[SOURCE - 1].astype(np.float32) / 255, last)
    assert psnr(layers.drawn(NEW), last) > frozen + 10


def test_the_ground_behind_an_object_is_that_of_earlier_frames() -> None:
    shown = scene(4, "straight")
    layers = separated(frames(shown))
    assert layers is not None
    empty = frames(replace(shown, things=()))[0]
    hidden = layers.alphas[0] > 0.5
    assert np.abs(layers.ground - empty / 255)[hidden].mean() < 0.02


def test_two_objects_move_independently() -> None:
    film = frames(scene(2, "pair"))
    layers = separated(film)
    assert layers is not None
    assert len(layers.steps) == 2
    assert psnr(layers.drawn(NEW), film[-1]) > 30


@pytest.mark.parametrize(("seed", "least"), [(3, 26), (14, 39), (29, 34)], ids=["square", "triangle", "triangle"])
def test_an_object_bounces_off_the_edge(seed: int, least: float) -> None:
    shown = scene(seed, "bounce")
    film = frames(shown)
    layers = separated(film)
    assert layers is not None
    turn = np.diff(np.sign(np.diff(track(shown)[0, SOURCE:, :2].numpy(), axis=0)), axis=0)
    assert turn.any(), "the clip shows a bounce"
    assert psnr(layers.drawn(NEW), film[-1]) > least


def test_motion_since_the_last_bounce_goes_on() -> None:
    shown = sample(900_000_505, "bounce", (112, 64), 129)
    film = frames(shown)
    turns = np.abs(np.diff(track(shown)[0, :SOURCE, :2].numpy(), n=2, axis=0)).max(axis=1) > 0.05
    assert turns[-12:].any(), "the source bounces within its last twelve frames"
    layers = separated(film)
    assert layers is not None
    assert psnr(layers.drawn(12), film[SOURCE + 11]) > 30


def _cropped(seed: int, side: int) -> NDArray[np.uint8]:
    """The frames of a scene, so cropped that an edge runs through the object's middle at the joint.

    side: 1 if the object moves out of the frame there, -1 if it comes in.
    """
    shown = scene(seed, "straight")
    film = frames(shown)
    right = (shown.things[0].velocity[0] > 0) == (side > 0)
    edge = round(2 * (float(track(shown)[0, SOURCE - 1, 0]) + shown.width / 2))
    return np.ascontiguousarray(film[:, :, :edge] if right else film[:, :, edge:])


@pytest.mark.parametrize("seed", [4, 6, 16])
def test_an_object_that_the_edge_cuts_leaves_the_frame(seed: int) -> None:
    film = _cropped(seed, side=1)
    layers = separated(film)
    assert layers is not None
    assert leaves(layers.alphas[0], -layers.steps[0])[0]
    assert psnr(layers.drawn(NEW), film[-1]) > 33


@pytest.mark.parametrize("seed", [4, 6, 16])
def test_an_object_that_comes_in_is_not_a_layer(seed: int) -> None:
    assert separated(_cropped(seed, side=-1)) is None


@pytest.mark.parametrize(("kind", "seed"), [("empty", 0), ("still", 0), ("zoom", 1), ("rotate", 1), ("pan", 0)])
def test_what_the_layers_do_not_explain_is_not_separated(kind: Kind, seed: int) -> None:
    assert separated(frames(scene(seed, kind))) is None


def test_a_bar_that_grows_is_not_an_object() -> None:
    film = np.full((SOURCE, 128, 224, 3), 230, np.uint8)
    for number, frame in enumerate(film):
        frame[50:70, 20 : 60 + 3 * number] = (40, 90, 200)
    assert separated(film) is None


def test_two_edges_of_an_object_are_one_object() -> None:
    film = frames(sample(980_000_000, "straight", (112, 64), SOURCE + 96))
    layers = separated(film)
    assert layers is not None
    assert len(layers.steps) == 1
    assert psnr(layers.drawn(96), film[-1]) > 33


def test_a_short_source_is_not_separated() -> None:
    assert separated(frames(scene(0, "straight")), source=6) is None


def test_footage_is_not_separated() -> None:
    with av.open(str(Path(__file__).parents[2] / "examples" / "city.mp4")) as file:
        film = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
    assert separated(film[:, ::4, ::4]) is None


def test_a_noisy_ground_is_not_that_of_a_drawn_picture() -> None:
    film = frames(scene(0, "straight")).astype(np.int16)
    noisy = film + np.random.default_rng(0).integers(-2, 3, film.shape)
    assert separated(np.clip(noisy, 0, 255).astype(np.uint8)) is None


def blocks(
    height: int, width: int, places: list[tuple[int, int]], side: tuple[int, int] = (10, 10)
) -> NDArray[np.uint8]:
    """The frames of a grey picture with a block of `side` (rows, columns) at each place (row, column), which moves one
    pixel to the right in each frame, [T, H, W, 3]."""
    film = np.full((SOURCE, height, width, 3), 90, np.uint8)
    for number, frame in enumerate(film):
        for row, column in places:
            frame[row : row + side[0], column + number : column + number + side[1]] = 230
    return film


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "size", [(2, 64), (64, 2), (11, 90), (37, 61), (1200, 3), (4, 2000)], ids=lambda size: f"{size[1]}x{size[0]}"
)
def test_frames_of_any_size_are_separated_or_not(size: tuple[int, int]) -> None:
    height, width = size
    film = blocks(height, width, [(height // 3, width // 4)], (max(1, height // 3), max(1, width // 6)))
    for shown in (film, film.swapaxes(1, 2)):
        layers = separated(np.ascontiguousarray(shown))
        assert layers is None or np.isfinite(layers.drawn(NEW)).all()


def test_a_long_thin_frame_is_searched_in_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = list[tuple[int, ...]]()

    def searched(small: Frames, count: int, lags: Any, areas: Any, steps: Any) -> Any:
        sizes.extend(small(number).shape for number in range(count))
        return steps

    monkeypatch.setattr(separation, "_searched", searched)
    separated(blocks(64, 1024, [(20, 100)], (30, 100)))
    assert set(sizes) == {(16, 256, 3)}


def test_many_objects_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = list[int]()

    def searched(small: Any, count: int, lags: Any, areas: list[Any], steps: Any) -> Any:
        numbers.append(len(areas))
        return steps

    monkeypatch.setattr(separation, "_searched", searched)
    places = [(10 + 30 * (number % 2), 10 + 60 * (number // 2)) for number in range(8)]
    separated(blocks(64, 256, places[:6]))
    assert separated(blocks(64, 256, places)) is None
    assert numbers == [6]


@pytest.mark.filterwarnings("error")
def test_a_source_with_a_cut_is_not_separated() -> None:
    film = blocks(64, 112, [(20, 20)])
    film[: SOURCE - 9] = 255 - film[: SOURCE - 9]
    assert separated(film) is None


def test_frames_that_are_not_compared_are_not_converted() -> None:
    film = frames(scene(1, "pan"))
    tracemalloc.start()
    try:
        assert separation.separated(Film.of(film)) is None
        assert tracemalloc.get_traced_memory()[1] < 2 * film.nbytes
    finally:
        tracemalloc.stop()
