"""Latents to frames: however they come and are cut, each frame comes once, and pieces agree with the whole."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.errors import Cancelled
from longtake.plans import Size
from longtake.sampling.noise import seeded
from longtake.sampling.vae import (
    FRAMES_AT_ONCE,
    Latents,
    Statistics,
    decode,
    decode_frames,
    decoder_noise,
    encode_clip,
    resize,
    to_pixels,
)
from longtake.video import Progress
from tests.sampling.small_vae import small_vae


@pytest.fixture(scope="module")
def vae() -> Any:
    return small_vae()


def video(latents: int) -> Tensor:
    return torch.randn(1, 8, latents, 2, 2, generator=torch.Generator().manual_seed(latents))


def arriving(latent: Tensor, *cuts: int) -> Iterator[Latents]:
    bounds = [0, *cuts, latent.shape[2]]
    for start, stop in pairwise(bounds):
        yield Latents(latent[:, :, start:stop], stop == latent.shape[2])


@pytest.mark.parametrize(("first", "last"), [(0, 41), (16, 41), (16, 38), (40, 41)])
def test_a_short_video_is_decoded_at_once(vae: Any, first: int, last: int) -> None:
    latent = video(11)
    chunks = list(decode_frames(vae, arriving(latent), first, last, timestep=0.05))
    origin = max(0, first // 4 - 6)
    whole = decode(vae, latent[:, :, origin:], 0.05)
    assert torch.equal(torch.cat(chunks), whole[first - origin * 4 : last - origin * 4])
    assert max(map(len, chunks)) <= FRAMES_AT_ONCE, "a caller resizes each chunk to the output's size"


@pytest.mark.parametrize("cuts", [(), (11,), (3, 7, 30), (1, 2, 40, 57), (20,), (50,)])
@pytest.mark.parametrize(("first", "last"), [(0, 237), (16, 230), (100, 237)])
def test_frames_do_not_depend_on_how_latents_come(vae: Any, cuts: tuple[int, ...], first: int, last: int) -> None:
    latent = video(60)
    got = torch.cat(list(decode_frames(vae, arriving(latent, *cuts), first, last, timestep=0.05)))
    at_once = torch.cat(list(decode_frames(vae, arriving(latent), first, last, timestep=0.05)))
    assert len(got) == last - first
    assert torch.equal(got, at_once)


def test_pieces_agree_with_the_whole(vae: Any) -> None:
    latent = video(60)
    pieces = torch.cat(list(decode_frames(vae, arriving(latent), 0, 237, timestep=0.05)))
    whole = decode(vae, latent, 0.05)
    assert (pieces - whole).abs().median() < 0.02 * whole.std()


def test_frames_come_before_the_last_latents_do(vae: Any) -> None:
    latent, taken = video(60), 0

    def counted() -> Iterator[Latents]:
        nonlocal taken
        for part in arriving(latent, 25, 40):
            taken += 1
            yield part

    next(decode_frames(vae, counted(), 0, 237, timestep=0.05))
    assert taken == 1


def test_decoding_can_be_cancelled_between_pieces(vae: Any) -> None:
    def on_progress(progress: Progress) -> None:
        if progress.step > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(decode_frames(vae, arriving(video(60)), 0, 237, timestep=0.05, on_progress=on_progress))


def test_progress_moves_on_within_each_piece(vae: Any) -> None:
    reports: list[Progress] = []
    pieces = decode_frames(vae, arriving(video(60)), 0, 230, timestep=0.05, on_progress=reports.append)
    steps = [sum(map(len, pieces)), *(report.step for report in reports)]
    assert steps[0] == steps[-1] == reports[0].steps == 230
    assert steps[1:] == sorted(steps[1:])
    assert {0, 56, 112, 168} < set(steps), "a piece begins where its frames do"
    assert len(set(steps)) > 4 * 3


def test_progress_counts_only_frames_that_are_decoded(vae: Any) -> None:
    reports: list[Progress] = []
    list(decode_frames(vae, arriving(video(60)), 160, 237, timestep=0.05, on_progress=reports.append))
    assert reports[0].step == 0
    assert reports[-1].step == reports[-1].steps == 237 - (160 - 24), (
        "24 frames before the wanted ones are decoded, too"
    )


def test_decoder_noise_is_the_same_in_pieces() -> None:
    latent = video(9)
    once, pieces = seeded(1), seeded(1)
    whole = decoder_noise(once, 0, latent)
    parts = [decoder_noise(pieces, 0, latent[:, :, :4]), decoder_noise(pieces, 4, latent[:, :, 4:])]
    assert torch.equal(whole, torch.cat(parts, 2))


def test_encoding_is_normalised_and_deterministic(vae: Any) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)
    latent = encode_clip(vae, frames, (64, 32))
    assert latent.shape == (1, 8, 3, 2, 4)
    assert torch.equal(latent, encode_clip(vae, frames, (64, 32)))
    shifted = Statistics(torch.full((1, 8, 1, 1, 1), 2.0), torch.full((1, 8, 1, 1, 1), 3.0))
    assert torch.allclose(shifted.unnormalise(shifted.normalise(latent)), latent, atol=1e-6)


def test_pixels_are_in_range_and_of_the_asked_size() -> None:
    frames = torch.randn(3, 3, 8, 12) * 4
    pixels = to_pixels(frames, (24, 16))
    assert pixels.shape == (3, 3, 16, 24)
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert resize(frames, (12, 8)) is frames


def test_few_frames_at_a_time_are_resized_before_they_are_encoded(vae: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, resized = np.random.default_rng(0).integers(0, 256, (21, 48, 64, 3), np.uint8), list[int]()

    def counted(pieces: Tensor, size: Size) -> Tensor:
        resized.append(len(pieces))
        return resize(pieces, size)

    monkeypatch.setattr("longtake.sampling.vae.resize", counted)
    latent = encode_clip(vae, frames, (64, 32))
    assert resized == [8, 8, 5]
    monkeypatch.setattr("longtake.sampling.vae.FRAMES_AT_ONCE", 100)
    assert torch.equal(latent, encode_clip(vae, frames, (64, 32)))
