"""The recipe of LTX-Video 0.9.x: turns a plan and the context into new frames.

Read from the top: `generate` decodes the latents that `sampler.py` samples.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from longtake.families.family import Context, GeneratedClip, PlanRun
from longtake.families.ltxv.colour import tone_map
from longtake.families.ltxv.conditioning import ConditioningItem
from longtake.families.ltxv.guidance import Guide, guided_velocity
from longtake.families.ltxv.model import LTXVModel, few_tokens, load
from longtake.families.ltxv.plan import LTXVPlan
from longtake.families.ltxv.sampler import Items, PassSetup, Setup, sample_video
from longtake.media.crf import compress
from longtake.media.planes import RGBFrames
from longtake.media.preprocess import preprocess
from longtake.plans import latent_length
from longtake.prompts import expand as expand_prompt
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid
from longtake.sampling.preview import PreviewedFrames, lazy_decoder, preview_callback
from longtake.sampling.schedules import noise_levels
from longtake.sampling.vae import (
    Latents,
    Statistics,
    decode_frames,
    decoder_noise,
    encode_clip,
    noised_for_decoder,
    round_trip,
    to_pixels,
)
from longtake.sampling.windows import Loop, OnEstimate, ignore_estimate
from longtake.threads import awaited
from longtake.video import Progress

__all__ = ["expand", "generate", "load", "warm_up"]

LTXVRun = PlanRun[LTXVPlan, LTXVModel]


def expand(run: LTXVRun, frame: RGBFrames) -> tuple[str, str | None]:
    """Returns (prompt, note), as `Recipe.expand` says. The language model that the settings name rewrites the prompt.

    `frame`: not used; other families show it to their language model.
    """
    if not run.plan.expand_prompt:
        return run.plan.prompt, None
    return expand_prompt(run.plan.prompt, run.settings, partial(run.on_progress, Progress("prompt", 0, 1)))


def generate(run: LTXVRun, prompt: str, context: Context) -> Iterator[GeneratedClip]:
    """Yields a single clip, which has all new frames.

    Nothing is sampled before the caller takes the clip. While the caller reads the clip's `frames`, the windows are
    sampled one after the other, and each frame is decoded as soon as no later window can change it.

    What the clip has of the context:
    - If the output shows the context with the source's own pixels, `frames` has only the new frames. The clip's
      `rendition` is the context's last frame after the VAE has encoded and decoded it.
    - If the output shows the context as the VAE decodes it, `frames` has first the context, then the new frames.
    - If the context only guides a new video, which does not show it, `frames` has only the new frames.

    `run`: the plan, the loaded model and the settings.
    `prompt`: the prompt after expansion.
    `context`: the context's frames. Its sound and end image are not used.
    """
    plan = run.plan
    run.model.replicas.log_idle(max(pass_.guidance.most_evaluations for pass_ in plan.passes))
    setup = make_setup(run, prompt)
    check = partial(run.on_progress, Progress("encode", 0, 1))
    # A thread may have compressed the context while the device encoded the prompt.
    compressed = context.compressed
    frames = compress(context.frames, plan.context_crf) if compressed is None else awaited(compressed, check)
    if plan.preprocess:
        frames = preprocess(frames, plan.guide, run.settings, check)
    items = context_items(run, frames)
    setup = replace(setup, on_estimate=preview_callbacks(run, frames, items))
    decoded = decoded_frames(run, setup, items)
    rendition: Tensor | None = None
    if plan.keeps_source:
        opening = next(decoded)
        rendition, decoded = opening[0], chain([opening[1:]], decoded)
    yield GeneratedClip(decoded, plan.new_frames, plan.context_frames, rendition)


def make_setup(run: LTXVRun, prompt: str) -> Setup:
    """Returns the set-up with which all windows of the plan are sampled. `prompt` is encoded here, and so is the plan's
    negative prompt if a pass uses it."""
    plan, model, card = run.plan, run.model, run.model.card
    positive = model.text.encode(prompt)
    heeds_negative = any(pass_.guidance.heeds_negative for pass_ in plan.passes)
    negative = model.text.encode(plan.negative_prompt) if heeds_negative else None
    model.text.release()
    grid = Grid(card.temporal_compression, card.spatial_compression, plan.rate)
    passes = tuple(
        PassSetup(
            guide=Guide(model.replicas, positive, negative, pass_.guidance),
            levels=noise_levels(pass_.steps, pass_.skip_initial, pass_.skip_final),
            grid=grid,
            canvas=pass_.canvas,
            acceleration=pass_.acceleration,
            conditioning_noise=card.conditioning_noise_scale,
        )
        for pass_ in plan.passes
    )
    return Setup(
        passes=passes,
        windows=plan.windows,
        overlap_latents=plan.overlap_latents,
        overlap_strength=plan.overlap_strength,
        temporal_adain_factor=plan.temporal_adain_factor,
        upsampler=model.upsampler,
        statistics=Statistics.of(model.vae, model.device),
        set_pass=run.set_pass,
    )


def warm_up(run: LTXVRun) -> None:
    """Compiles all code that requests with such a plan need, whatever their sizes are: encodes the plan's prompts, and
    makes one prediction with each guidance of each pass for a few tokens. Also encodes and decodes a few frames.

    `run`: the plan with the loaded model and its adapters.
    """
    setup = make_setup(run, run.plan.prompt)
    upsampler = setup.upsampler if len(setup.passes) > 1 else None
    round_trip(run.model.vae, upsampler, run.model.device, run.model.card.decode_timestep)
    tokens, levels, coords = few_tokens(run.model.transformer, run.model.device)
    for number, one in enumerate(setup.passes):
        run.set_pass(number)
        by_guidance = {one.guide.guidance.bin(level): level for level in one.levels.tolist()}
        for level in by_guidance.values():
            guided_velocity(one.guide, tokens, levels, coords, level)


def context_items(run: LTXVRun, frames: RGBFrames) -> list[Items]:
    """Returns what the first window is conditioned on: for each pass a list of items, which are encoded clips of the
    size of that pass.

    - If the plan's `strength` is 0, each list is empty, because the model sees nothing of the source.
    - If the plan's `guide` is `rgb` (ordinary video), each list has one item, with which the window begins. The new
      frames continue it.
    - If the plan's `guide` is `depth`, `pose` or `canny` (edges), each list has one item, which the new frames follow
      from the first one on. It is not a part of the video (its `is_guide` is True).

    `run`: the plan, the loaded model and the progress callback.
    `frames`: the frames of the item, [T, H, W, 3]: the source frames that the model sees, or the depth, pose or edge
        pictures made from them.
    """
    plan, model = run.plan, run.model
    if plan.strength == 0:
        return [[] for _ in plan.passes]
    run.on_progress(Progress("encode", 0, 1))
    is_guide = plan.guide != "rgb"
    latents = (encode_clip(model.vae, frames, pass_.canvas, model.device) for pass_ in plan.passes)
    return [[ConditioningItem(latent, 0, plan.strength, is_guide)] for latent in latents]


def preview_callbacks(run: LTXVRun, frames: RGBFrames, context: list[Items]) -> Callable[[int, int], OnEstimate]:
    """Returns a function of a pass's and a window's number (from 0) that returns a callback for the sampler.

    The callback makes previews of the new frames while that pass samples that window. If the model sees nothing of the
    source, or depth, pose or edge pictures in its place, no previews are made, and the callback does nothing.

    `run`: the plan, the loaded model, and the object that receives the previews.
    `frames`: the source frames that the model sees, [T, H, W, 3].
    `context`: for each pass, what the first window is conditioned on, from `context_items`.
    """
    plan = run.plan
    latents = [item.latent for items in context for item in items if not item.is_guide]
    decoders = [lazy_decoder(latent, frames) for latent in latents]
    latent_s = run.model.card.temporal_compression / plan.rate

    def on_estimate(pass_number: int, window: int) -> OnEstimate:
        if not decoders:
            return ignore_estimate
        place = plan.windows[window]
        known = latents[pass_number].shape[2] if window == 0 else plan.overlap_latents
        new = range(known, place.stop - place.start)
        previewed = PreviewedFrames(new, latent_s, window + 1, plan.num_windows, plan.reversed_at_end)
        return preview_callback(run.previews, decoders[pass_number], previewed)

    return on_estimate


def decoded_frames(run: LTXVRun, setup: Setup, context: list[Items]) -> Iterator[Tensor]:
    """Yields decoded frames in chunks [t, 3, H, W] in 0..1 at the output's size, each frame as soon as it is final.

    They are those of the clip (see `generate`), after its rendition if it has one.

    `run`: the plan and the loaded model.
    `setup`: the set-up of sampling, from `make_setup`: encoded prompts, guidance, noise levels and sizes.
    `context`: for each pass, what the first window is conditioned on, from `context_items`.
    """
    plan = run.plan
    first_frame = plan.context_frames - 1 if plan.keeps_source else 0
    last_frame = plan.new_frames + (plan.context_frames if plan.guide == "rgb" else 0)
    latents = final_latents(run, setup, context)
    timestep = run.model.card.decode_timestep
    chunks = decode_frames(
        run.model.vae, latents, first_frame, last_frame, timestep=timestep, on_progress=run.on_progress
    )
    for chunk in chunks:
        yield to_pixels(chunk, plan.size)


def final_latents(run: LTXVRun, setup: Setup, context: list[Items]) -> Iterator[Latents]:
    """Yields one `Latents` object after each window: the latent frames that are finished now and go to the decoder.

    A latent frame is finished when no later window changes it. Each one is yielded once, as the last pass made it, with
    the tone map applied and the normalisation undone.

    `run`: the plan and the loaded model.
    `setup`: the set-up of all windows, from `make_setup`.
    `context`: for each pass, what the first window is conditioned on, from `context_items`.
    """
    plan, model, temporal = run.plan, run.model, run.model.card.temporal_compression
    scale = model.card.decode_noise_scale
    noise = seeded(plan.seed, device=model.device) if model.vae.config.timestep_conditioning and scale > 0 else None
    loop = Loop.of(plan, run.resume, run.on_progress, model.device)
    done = 0
    for number, video in enumerate(sample_video(setup, context, loop), 1):
        is_last = number == plan.num_windows
        # The shared latents except the first are cross-faded with the next window, so they are left for that window.
        stop = video.latents[-1].shape[2] - (0 if is_last else plan.overlap_latents - 1)
        latent = video.latents[-1][:, :, done:stop]
        if noise is not None:
            latent = noised_for_decoder(latent, decoder_noise(noise, done, latent), scale)
        mapped = tone_map(latent, compression(plan, range(done, stop), temporal).to(latent))
        yield Latents(setup.statistics.unnormalise(mapped), is_last)
        done = stop


def compression(plan: LTXVPlan, latent_frames: range, temporal: int) -> Tensor:
    """Returns how far the tone map compresses each latent frame in the range, 0 (not) to 1, as a tensor [F, 1, 1].

    - If the output shows no unchanged source frames, it is the plan's `tone_map_compression_ratio` for every latent
      frame.
    - Otherwise it rises linearly from 0 to that ratio within one second, so that the picture does not change suddenly
      after the last unchanged source frame. The rise begins at the first latent frame whose frames the output takes
      from the model and not from the source. For earlier latent frames it is 0.

    `latent_frames`: the numbers of the latent frames, counted from the clip's start.
    `temporal`: the number of frames that a latent frame covers.
    """
    ratio = plan.tone_map_compression_ratio
    if not plan.source_frames:
        return torch.full((len(latent_frames), 1, 1), ratio)
    first_made = latent_length(plan.context_frames, temporal) if plan.keeps_source else 0
    seconds = (torch.tensor(latent_frames) - first_made) * temporal / float(plan.rate)
    return ratio * seconds.clamp(0, 1)[:, None, None]
