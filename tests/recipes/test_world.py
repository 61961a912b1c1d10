"""The world keeps its promises: what `track` says is what `render` shows, and a seed is a clip."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipes.tiny import measure
from recipes.tiny.render import render
from recipes.tiny.world import WIDE, Kind, prompt, reflect, sample, track

SEEDS = st.integers(0, 1 << 30)


@given(seed=SEEDS)
@settings(max_examples=12)
def test_the_track_is_where_the_object_is_drawn(seed: int) -> None:
    scene = sample(seed, "straight", num_frames=5)
    thing = replace(scene.things[0], shape="circle", rgb=(1.0, 1.0, 1.0), radius=6.0)
    scene = replace(scene, texture="plain", rgb=((-1.0, -1.0, -1.0),) * 2, things=(thing,))
    white = (render([scene])[0].mean(0) + 1) / 2
    ys = torch.arange(64)[:, None] - 31.5
    xs = torch.arange(64)[None, :] - 31.5
    mask = (white > 0.4).float()
    centre = torch.stack([(mask * axis).sum((1, 2)) / mask.sum((1, 2)) for axis in (xs, ys)], dim=1)
    assert (centre - track(scene)[0, :, :2]).abs().max() < 0.35


@given(seed=SEEDS, num_frames=st.sampled_from((17, 33, 49)), size=st.sampled_from(((64, 64), (112, 64), (64, 96))))
@settings(max_examples=60)
def test_a_straight_path_stays_inside_and_is_straight(seed: int, num_frames: int, size: tuple[int, int]) -> None:
    scene = sample(seed, "straight", size, num_frames)
    path = track(scene)[0, :, :2]
    reach = 0.85 * scene.things[0].radius
    assert (path.abs() + reach <= torch.tensor(size) / 2 + 1e-3).all()
    assert (path[2:] - 2 * path[1:-1] + path[:-2]).abs().max() < 1e-4


@given(x=st.floats(-1000, 1000), bound=st.floats(5, 50))
def test_walls_reflect(x: float, bound: float) -> None:
    y = float(reflect(torch.tensor(x, dtype=torch.float64), bound))
    assert -bound - 1e-6 <= y <= bound + 1e-6
    if abs(x) <= bound:
        assert y == pytest.approx(x, abs=1e-6)


@pytest.mark.parametrize("kind", list(WIDE))
def test_a_seed_is_a_clip(kind: Kind) -> None:
    scene = sample(7, kind, num_frames=9)
    assert scene == sample(7, kind, num_frames=9)
    assert scene != sample(8, kind, num_frames=9)
    alone, beside = render([scene]), render([sample(8, kind, num_frames=9), scene])
    torch.testing.assert_close(alone[0], beside[1], atol=1e-6, rtol=0)
    assert alone.min() >= -1
    assert alone.max() <= 1


@given(seed=SEEDS)
@settings(max_examples=10)
def test_twice_the_size_shows_the_same_world(seed: int) -> None:
    scene = sample(seed, num_frames=5)
    small, large = render([scene]), render([scene], scale=2)
    halved = torch.nn.functional.avg_pool3d(large, (1, 2, 2))
    assert measure.psnr(halved, small) > 27


def test_the_prompt_names_what_is_shown() -> None:
    scene = sample(3, "pan")
    words = prompt(scene)
    assert all(thing.colour in words and thing.shape in words for thing in scene.things)
    assert scene.colours[0] in words
    assert "camera pans" in words


def test_progress_is_the_share_of_the_true_speed() -> None:
    scene = replace(sample(11, "pan", num_frames=33), texture="clouds", things=())
    clip = render([scene])[0]
    assert measure.progress(clip[:, 17:], scene, 17) == pytest.approx(1.0, abs=0.05)
    still = clip[:, 16:17].expand(-1, 16, -1, -1)
    assert measure.progress(still, scene, 17) == pytest.approx(0.0, abs=0.1)
    half = render([scene], t=16 + torch.arange(1, 17) / 2)[0]
    assert measure.progress(half, scene, 17) == pytest.approx(0.5, abs=0.05)


def test_the_tracker_finds_objects_and_their_shape() -> None:
    for seed in range(5):
        case = measure.truth(sample(seed, "straight", num_frames=9))
        if not measure.measurable(case):
            continue
        cover = measure.coverage(case.clip, case.background, case.scene.things[0].rgb)
        assert (measure.locate(cover)[0] - case.path).norm(dim=1).max() < 3
        assert measure.nearest_shape(cover[4]) == case.scene.things[0].shape
