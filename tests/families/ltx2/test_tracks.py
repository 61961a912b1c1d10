"""Tracks: what is given is in its place and held as strongly as asked; the rest is free."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltx2.tracks import Keyframe, PlacedLatents, Track, audio_track, draw_noise, video_track
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid, to_latent

GRID = Grid(8, 32, Fraction(24))
SHAPE = (1, 4, 5, 2, 3)


def test_held_latents_are_in_place_and_the_rest_is_free() -> None:
    context, image = torch.randn(1, 4, 2, 2, 3), torch.randn(1, 4, 1, 2, 3)
    track = video_track(GRID, SHAPE, [PlacedLatents(context, 3, 0.75), PlacedLatents(image, 0, 1.0)])
    clean, mask = to_latent(track.clean, SHAPE), to_latent(track.mask, (1, 1, *SHAPE[2:]))
    assert torch.equal(clean[:, :, 3:], context)
    assert torch.equal(clean[:, :, :1], image)
    assert mask[0, 0, :, 0, 0].tolist() == [0, 1, 1, 0.25, 0.25]
    assert track.levels[0].tolist() == [0, 0.25, 1]
    assert torch.equal(track.levels[0][track.levels[1]], track.mask.flatten())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="latents 4 to 6 do not fit into a window of 5"):
        video_track(GRID, SHAPE, [PlacedLatents(torch.zeros(1, 4, 2, 2, 3), 4, 1)])


def test_a_keyframe_stands_beside_the_video_at_its_time() -> None:
    image = torch.randn(1, 4, 1, 2, 3)
    track = video_track(GRID, SHAPE, [], Keyframe(image, 32, 0.5))
    assert track.extra == 6
    assert track.clean.shape == (1, 36, 4)
    assert track.mask[0, -6:, 0].tolist() == [0.5] * 6
    assert track.bounds[0, 0, -1].tolist() == pytest.approx([32 / 24, 33 / 24])
    assert track.result(track.clean).shape == (1, 30, 4)


def test_a_track_starts_as_noise_where_it_is_free_and_as_given_where_it_is_held() -> None:
    context = torch.randn(1, 4, 2, 2, 3)
    track = video_track(GRID, SHAPE, [PlacedLatents(context, 0, 1.0)])
    noise = torch.randn_like(track.clean)
    start = track.start(noise)
    assert torch.equal(start[:, 12:], noise[:, 12:])
    assert torch.equal(start[:, :12], track.clean[:, :12])


@given(st.floats(0, 1))
def test_a_second_scale_starts_between_what_there_was_and_noise(scale: float) -> None:
    track = video_track(GRID, SHAPE, [], Keyframe(torch.ones(1, 4, 1, 2, 3), 32, 1.0))
    noise, init = torch.randn_like(track.clean), torch.randn(1, 30, 4)
    start = track.start(noise, init, scale)
    assert torch.allclose(start[:, :30], scale * noise[:, :30] + (1 - scale) * init, atol=1e-5)
    assert torch.equal(start[:, 30:], track.clean[:, 30:])


def test_audio_is_held_where_it_is_known() -> None:
    clean, kept = torch.randn(1, 6, 8), torch.tensor([True, True, False, False, False, False])
    track = audio_track(clean, kept, 0.7, torch.zeros(1, 1, 6, 2))
    assert track.mask[0, :, 0].tolist() == pytest.approx([0.3, 0.3, 1, 1, 1, 1])
    assert track.is_free
    assert not Track(clean, torch.zeros(1, 6, 1), track.bounds).is_free


def test_noise_is_draw_noise_for_the_picture_first() -> None:
    video = video_track(GRID, SHAPE, [])
    audio = audio_track(torch.zeros(1, 6, 8), torch.zeros(6, dtype=torch.bool), 0, torch.zeros(1, 1, 6, 2))
    both = draw_noise({"video": video, "audio": audio}, seeded(7), "init")
    assert torch.equal(both["video"], draw_noise({"video": video}, seeded(7), "init")["video"])
