"""LTX-Video 0.9.x: from a plan and the context's frames to the new frames of a longer video."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from longtake.families.family import Context, Frames, Piece, Work
from longtake.families.ltxv.colour import tone_map
from longtake.families.ltxv.conditioning import Item
from longtake.families.ltxv.guidance import Guide
from longtake.families.ltxv.parts import LTXVParts
from longtake.families.ltxv.plan import LTXVPlan
from longtake.families.ltxv.sampler import PassSetup, Setup, sample_video
from longtake.media.crf import compress
from longtake.media.preprocess import preprocess
from longtake.prompts import expand as expand_prompt
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid
from longtake.sampling.schedules import noise_levels
from longtake.sampling.vae import (
    Latents,
    Statistics,
    decode_frames,
    decoder_noise,
    encode_clip,
    roughen,
    to_pixels,
)
from longtake.sampling.windows import Loop
from longtake.video import Progress

LTXVWork = Work[LTXVPlan, LTXVParts]

FRAMES_AT_ONCE = 8
"""Decoded frames are brought to the output's size so many at a time, to bound memory."""


def expand(work: LTXVWork, frame: Frames) -> tuple[str, str | None]:
    """The prompt to use, and a sentence where it is still the user's own."""
    return expand_prompt(work.plan.prompt, work.settings) if work.plan.expand_prompt else (work.plan.prompt, None)


def generate(work: LTXVWork, prompt: str, context: Context) -> Iterator[Piece]:
    """The new frames, as one piece whose frames come as soon as they are final.

    Where the source's own pixels are shown, the piece tells how the model renders the last of them; else the model's
    rendition of the whole context comes first.
    """
    plan = work.plan
    frames = compress(context.frames, plan.constant_rate_factor)
    if plan.preprocess:
        frames = preprocess(frames, plan.guide, work.settings)
    setup = setup_of(work, prompt)
    decoded = decoded_frames(work, setup, context_items(work, frames))
    rendition: Tensor | None = None
    if plan.keeps_source:
        opening = next(decoded)
        rendition, decoded = opening[0], chain([opening[1:]], decoded)
    yield Piece(decoded, plan.new_frames, plan.context_frames, rendition)


def setup_of(work: LTXVWork, prompt: str) -> Setup:
    """The set-up of a plan, with its prompts encoded."""
    plan, parts, card = work.plan, work.parts, work.parts.card
    positive = parts.text.encode(prompt)
    heeds_negative = any(pass_.guidance.heeds_negative for pass_ in plan.passes)
    negative = parts.text.encode(plan.negative_prompt) if heeds_negative else None
    parts.text.release()
    grid = Grid(card.temporal_compression, card.spatial_compression, plan.rate)
    passes = tuple(
        PassSetup(
            Guide(parts.transformer, positive, negative, pass_.guidance),
            noise_levels(pass_.steps, pass_.skip_initial, pass_.skip_final),
            grid,
            pass_.canvas,
            pass_.acceleration,
            card.conditioning_noise_scale,
        )
        for pass_ in plan.passes
    )
    return Setup(
        passes=passes,
        windows=plan.windows,
        overlap_latents=plan.overlap_latents,
        overlap_strength=plan.overlap_strength,
        temporal_adain_factor=plan.temporal_adain_factor,
        upsampler=parts.upsampler,
        statistics=Statistics.of(parts.vae, parts.device),
        set_pass=work.set_pass,
    )


def context_items(work: LTXVWork, frames: NDArray[np.uint8]) -> list[list[Item]]:
    """The context [T, H, W, 3] as items at each pass's size: in place at the start, or beside it as a guide."""
    plan, parts = work.plan, work.parts
    work.on_progress(Progress("context", 0, 1))
    if plan.strength == 0:
        return [[] for _ in plan.passes]
    guide = plan.guide != "rgb"
    return [
        [Item(encode_clip(parts.vae, frames, pass_.canvas, parts.device), 0, plan.strength, guide)]
        for pass_ in plan.passes
    ]


def decoded_frames(work: LTXVWork, setup: Setup, context: list[list[Item]]) -> Iterator[Tensor]:
    """Chunks [t, 3, H, W] in 0..1 at the output's size, as soon as they are final: the rendition of the context's last
    frame where the source's own pixels are shown, else of all of it, and the new frames."""
    plan, card = work.plan, work.parts.card
    first_frame = plan.context_frames - 1 if plan.keeps_source else 0
    last_frame = plan.new_frames + (plan.context_frames if plan.guide == "rgb" else 0)
    latents = final_latents(work, setup, context)
    for chunk in decode_frames(
        work.parts.vae,
        latents,
        first_frame,
        last_frame,
        timestep=card.decode_timestep,
        on_progress=work.on_progress,
    ):
        for start in range(0, len(chunk), FRAMES_AT_ONCE):
            yield to_pixels(chunk[start : start + FRAMES_AT_ONCE], plan.size)


def final_latents(work: LTXVWork, setup: Setup, context: list[list[Item]]) -> Iterator[Latents]:
    """The video's latents ready for the decoder, as soon as no later window changes them."""
    plan, parts = work.plan, work.parts
    device, scale = parts.device, parts.card.decode_noise_scale
    noise = seeded(plan.seed, device=device) if parts.vae.config.timestep_conditioning and scale > 0 else None
    loop = Loop.of(plan, work.resume, work.on_progress, device)
    done = 0
    for number, video in enumerate(sample_video(setup, context, loop), 1):
        last = number == plan.num_windows
        stop = video.latents[-1].shape[2] - (0 if last else plan.overlap_latents - 1)
        latent = video.latents[-1][:, :, done:stop]
        if noise is not None:
            latent = roughen(latent, decoder_noise(noise, done, latent), scale)
        yield Latents(setup.statistics.unnormalise(tone_map(latent, plan.tone_map_compression_ratio)), last)
        done = stop
