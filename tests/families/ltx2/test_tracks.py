"""Tracks: conditioning is at its position and held by its strength; the rest is free."""

from fractions import Fraction

import pytest
import torch

from longtake.families.ltx2.tracks import Keyframe, PlacedLatents, Track, audio_track, draw_noise, video_track
from longtake.sampling.positions import Grid, to_latent

GRID = Grid(8, 32, Fraction(24))
SHAPE = (1, 4, 5, 2, 3)


def test_placed_latents_are_at_their_position_and_the_rest_is_free() -> None:
    context, image = torch.randn(1, 4, 2, 2, 3), torch.randn(1, 4, 1, 2, 3)
    track = video_track(GRID, SHAPE, [PlacedLatents(context, 3, 0.75), PlacedLatents(image, 0, 1.0)])
    clean, mask = to_latent(track.clean, SHAPE), to_latent(track.mask, (1, 1, *SHAPE[2:]))
    assert torch.equal(clean[:, :, 3:], context)
    assert torch.equal(clean[:, :, :1], image)
    assert mask[0, 0, :, 0, 0].tolist() == [0, 1, 1, 0.25, 0.25]
    assert track.levels[0].tolist() == [0, 0.25, 1]
    assert torch.equal(track.levels[0][track.levels[1]], track.mask.flatten())


def test_latents_beyond_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="latents 4 to 6 do not fit into a window of 5"):
        video_track(GRID, SHAPE, [PlacedLatents(torch.zeros(1, 4, 2, 2, 3), 4, 1)])


def test_a_keyframe_is_beside_the_video_at_its_time() -> None:
    image = torch.randn(1, 4, 1, 2, 3)
    track = video_track(GRID, SHAPE, [], Keyframe(image, 32, 0.5))
    assert track.extra == 6
    assert track.clean.shape == (1, 36, 4)
    assert track.mask[0, -6:, 0].tolist() == [0.5] * 6
    assert track.bounds[0, 0, -1].tolist() == pytest.approx([32 / 24, 33 / 24])
    assert track.result(track.clean).shape == (1, 30, 4)


def test_free_tokens_start_as_noise_and_held_ones_as_conditioned() -> None:
    context = torch.randn(1, 4, 2, 2, 3)
    track = video_track(GRID, SHAPE, [PlacedLatents(context, 0, 1.0)])
    noise = torch.randn_like(track.clean)
    start = track.start(noise)
    assert torch.equal(start[:, 12:], noise[:, 12:])
    assert torch.equal(start[:, :12], track.clean[:, :12])


def test_a_second_pass_starts_from_its_tokens_at_the_first_level() -> None:
    placed = [PlacedLatents(torch.full((1, 1, 1, 1, 1), 8.0), 0, 0.5)]
    keyframe = Keyframe(torch.full((1, 1, 1, 1, 1), 7.0), 32, 0.5)
    track = video_track(GRID, (1, 1, 2, 1, 1), placed, keyframe)
    start = track.start(noise=torch.full((1, 3, 1), 4.0), init=torch.full((1, 2, 1), 2.0), level=0.75)
    # Free: 0.75 * 4 + 0.25 * 2 = 3.5. Half held: (8 + 3.5) / 2. The keyframe starts from 0: (7 + 0.75 * 4) / 2.
    assert start.flatten().tolist() == [5.75, 3.5, 5.0]


def test_audio_is_held_in_the_masked_tokens() -> None:
    clean, held = torch.randn(1, 6, 8), torch.tensor([True, True, False, False, False, False])
    track = audio_track(clean, held, 0.7, torch.zeros(1, 1, 6, 2))
    assert track.mask[0, :, 0].tolist() == pytest.approx([0.3, 0.3, 1, 1, 1, 1])
    assert track.is_free
    assert not Track(clean, torch.zeros(1, 6, 1), track.bounds).is_free


def test_noise_is_drawn_by_modality_in_the_tokens_shape() -> None:
    drawn: list[tuple[str, tuple[int, ...]]] = []

    def noise(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        drawn.append((name, shape))
        return torch.full(shape, float(len(drawn)))

    video = video_track(GRID, SHAPE, [])
    audio = audio_track(torch.zeros(1, 6, 8), torch.zeros(6, dtype=torch.bool), 0, torch.zeros(1, 1, 6, 2))
    both = draw_noise({"video": video, "audio": audio}, noise, "init")
    assert drawn == [("video.init", (1, 30, 4)), ("audio.init", (1, 6, 8))]
    assert (both["video"] == 1).all()
    assert (both["audio"] == 2).all()
