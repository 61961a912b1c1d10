"""Training windows of picture and sound are what the sampler will meet."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_from, audio_latents
from recipes.tiny import configs as first
from recipes.tiny import latents
from recipes.tiny.world import prompt
from recipes.tiny_av import configs, windows
from recipes.tiny_av.windows import Clean, Layout, Mix, Windows

SILENCE = torch.full((100, configs.TRANSFORMER["audio_in_channels"]), 9.0)


@given(st.integers(1, 13), st.integers(1, 5), st.integers(1, 5), st.sampled_from(sorted(set(windows.RATES))))
def test_positions_are_the_products(count: int, rows: int, columns: int, fps: float) -> None:
    grid = Grid(first.TEMPORAL, first.SPATIAL, Fraction(fps))
    mine = windows.video_coords(windows.spans(count), rows, columns, fps)
    torch.testing.assert_close(mine, grid.bounds(count, rows, columns))
    image = windows.video_coords([(20.0, 21.0)], rows, columns, fps)
    torch.testing.assert_close(image, grid.keyframe_bounds(rows, columns, 20))


@given(st.integers(1, 60), st.sampled_from(sorted(set(windows.RATES))), st.integers(0, 7), st.integers(0, 3))
def test_sound_positions_are_the_products(frames: int, fps: float, lead: int, ending: int) -> None:
    rate = Fraction(fps)
    count = windows.audio_count(frames, fps)
    assert count == audio_latents(frames, rate)
    torch.testing.assert_close(windows.audio_coords(count), audio_bounds(count))
    context = max(4 * lead - 3, 0)
    if context:
        assert windows.inside(count, 0.0, context / fps).equal(audio_before(count, context / rate))
    start = max(frames - 8 * ending, 0)
    mine = windows.inside(count, start / fps, 1e9)
    assert mine.equal(audio_from(count, start / rate))


def test_given_tokens_are_clean_and_the_rest_leads_back_to_its_noise() -> None:
    tokens = torch.randn(400, 6, 2, 8)
    known = (torch.arange(6) < 2).expand(400, -1)
    level = torch.rand(400) * 0.9 + 0.1
    dice = torch.Generator().manual_seed(3)
    made = windows.noised(Clean(tokens, torch.ones(400, 6, 2), known), level, 0.25, dice, torch.zeros(1))
    sigma = made.sigmas[..., None, None]
    torch.testing.assert_close((made.x - sigma * made.target)[:, 2:], tokens[:, 2:], atol=1e-4, rtol=1e-4)
    held = made.sigmas[:, 0] > 0
    assert 0.15 < float(held.float().mean()) < 0.35
    assert bool((made.sigmas[:, 0] <= level).all())
    assert bool((made.weight[~held][:, :2] == 0).all())
    assert bool((made.weight[:, 2:] == 1).all())
    assert float(((made.x[:, :2] - tokens[:, :2])[~held].flatten(1).abs().amax(1) == 0).float().mean()) > 0.7


def test_levels_are_mostly_one_and_sometimes_one_side_is_known() -> None:
    video, audio = windows.noise_levels(4000, torch.Generator().manual_seed(1), late=False)
    assert 0.5 < float((video == audio).float().mean()) < 0.8
    assert 0.03 < float((video == 0).float().mean()) < 0.09
    assert 0.07 < float((audio == 0).float().mean()) < 0.13
    assert not bool(((video == 0) & (audio == 0)).any())
    late = windows.noise_levels(4000, torch.Generator().manual_seed(1), late=True)
    assert float(torch.stack(late).max()) <= 0.9301
    stressed, _ = windows.noise_levels(4000, torch.Generator().manual_seed(1), late=False, near=0.6)
    assert float((stressed >= 0.9).float().mean()) > float((video >= 0.9).float().mean()) + 0.1


COUNT = 80
"""The clips of the group, so that each frame rate has some."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Windows:
    """Draws from one group of clips with random latents. Each clip's sound has the clip's number as its value."""
    torch.set_num_threads(1)
    group, work = replace(latents.GROUPS[0], count=COUNT, keyed=COUNT), tmp_path_factory.mktemp("work")
    values = torch.randn(COUNT, first.LATENT_CHANNELS, 9, 4, 4, generator=torch.Generator().manual_seed(1))
    sounds = {group.name: [torch.full((90, configs.TRANSFORMER["audio_in_channels"]), float(i)) for i in range(COUNT)]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(first, "WORK", work)
        patch.setattr(latents, "GROUPS", (group,))
        scenes = latents.scenes_of(group, 0, COUNT)
        table = {
            "latents": values,
            "masks": latents.cell_masks(scenes, 1),
            "kinds": [scene.kind for scene in scenes],
            "prompts": [prompt(scene) for scene in scenes],
            "image": values[:, :, -1:],
            "suffix": values[:, :, -windows.SUFFIX_LATENTS :],
        }
        torch.save(table, work / f"latents_{group.name}.pt")
        channels = first.LATENT_CHANNELS
        torch.save((torch.zeros(channels), torch.ones(channels)), work / "latents_statistics.pt")
        return Windows(7, sounds, SILENCE)


def _mix(layout: Layout) -> Mix:
    return Mix(groups={"square": 1.0}, layouts={layout: 1.0}, soft=0.0, mute=0.0)


def test_a_batch_follows_from_its_step_and_rank(drawn: Windows) -> None:
    one, same, other = (drawn.batch_of(Mix(groups={"square": 1.0}), 5, rank) for rank in (0, 0, 1))
    assert one.video.x.equal(same.video.x)
    assert one.audio.x.equal(same.audio.x)
    assert one.video.x.shape == other.video.x.shape
    assert not one.video.x.equal(other.video.x)


def test_a_backward_window_is_given_at_its_end_with_its_sound(drawn: Windows) -> None:
    batch = drawn.batch_of(_mix("backward"), 3, 0)
    free = batch.video.weight.sum(2) > 0
    last = free[:, -2:].any(1)
    assert not bool(last.any())
    assert bool(free[:, 1].all() or (batch.video.level == 0).any())
    heard = batch.audio.weight[..., 0] > 0
    assert not bool(heard[:, -1].any())


def test_an_end_image_lies_at_the_windows_last_frame(drawn: Windows) -> None:
    batch = drawn.batch_of(_mix("image"), 3, 0)
    assert batch.video.x.shape[1] == 10
    times = batch.video.coords[0, 0].unflatten(0, (10, -1))[:, 0]
    assert times[-1].tolist() == pytest.approx([32 * float(times[0, 1]), 33 * float(times[0, 1])])
    assert not bool((batch.video.weight[:, -1] > 0).any())
    assert bool((batch.video.sigmas[:, -1] == 0).all())


def test_an_end_image_of_another_clip_comes_with_its_last_latent(drawn: Windows) -> None:
    plain, cut = (drawn.batch_of(replace(_mix("image"), cut=share), 3, 0).video for share in (0.0, 1.0))
    own, other = (video.x - video.sigmas[..., None, None] * video.target for video in (plain, cut))
    torch.testing.assert_close(other[:, :-2], own[:, :-2], atol=1e-4, rtol=0)
    torch.testing.assert_close(other[:, -2], own[:, -2].roll(1, 0), atol=1e-4, rtol=0)
    shown, before = cut.weight[:, -2], plain.weight[:, -2].roll(1, 0)
    is_learnt = shown.any(1) & before.any(1)
    assert shown[is_learnt].equal(before[is_learnt])
    torch.testing.assert_close(cut.x[:, -1], plain.x[:, -1].roll(1, 0), atol=0.6, rtol=0)  # some have a little noise


def test_the_sound_is_the_clips_own(drawn: Windows) -> None:
    batch = drawn.batch_of(_mix("forward"), 4, 0)
    clean = (batch.audio.x - batch.audio.sigmas[..., None, None] * batch.audio.target)[..., 0, 0]
    learnt = batch.audio.weight[..., 0] > 0
    values_by_clip = [row[mask] for row, mask in zip(clean, learnt, strict=True) if bool(mask.any())]
    assert len(values_by_clip) > 5
    for values in values_by_clip:
        assert float(values.max() - values.min()) < 0.01 * float(values.abs().max()) + 1e-2
    assert len({round(float(values.mean())) for values in values_by_clip}) > 1


def test_a_silent_video_stays_silent(drawn: Windows) -> None:
    mix = Mix(groups={"square": 1.0}, layouts={"forward": 1.0}, context={5: 1.0}, soft=0.0, mute=1.0)
    batch = drawn.batch_of(mix, 6, 0)
    assert bool((batch.audio.weight > 0).any())
    clean = batch.audio.x - batch.audio.sigmas[..., None, None] * batch.audio.target
    assert float((clean - 9.0).abs().median()) < 1e-4
