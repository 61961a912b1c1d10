"""The cases of LTX-Video 0.9.x: how this package computes each. Results are (name, tensor), named as in the oracle."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from bench.oracle.case import Case
from bench.oracle.recorded import recorded_noise
from bench.oracle.ways import applied
from longtake.families.ltxv.colour import adain, tone_map
from longtake.families.ltxv.conditioning import ConditioningItem, place
from longtake.families.ltxv.frame_counts import Window, plan_windows
from longtake.families.ltxv.fuse import fuse
from longtake.families.ltxv.guidance import Guide, value_attention, velocity
from longtake.families.ltxv.profiles import Guidance
from longtake.families.ltxv.sampler import PassSetup, Setup, sample, sample_video, trajectory
from longtake.models.applying import SetPass
from longtake.models.loras import LoadedAdapter, read
from longtake.models.replicas import Replicas
from longtake.models.t5 import EncodedPrompt
from longtake.models.video_transformer import TokenLevels
from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid
from longtake.sampling.resume import NO_RESUME
from longtake.sampling.schedules import noise_levels
from longtake.sampling.vae import Statistics, decode, noised_for_decoder, upsample
from longtake.sampling.windows import Loop
from longtake.video import ignore_progress

Results = Iterator[tuple[str, Tensor]]


def guidance_of(params: dict[str, Any]) -> Guidance:
    """Returns the guidance that a case asks for."""
    scales = params["guidance_scale"]
    many = len(scales) if isinstance(scales, list) else 1

    def each(name: str) -> tuple[Any, ...]:
        value = params[name]
        return tuple(value) if isinstance(value, list) else (value,) * many

    blocks = params["skip_block_list"]
    blocks = blocks if blocks and isinstance(blocks[0], list) else [blocks] * many
    return Guidance(
        tuple(params.get("guidance_timesteps", [1.0])),
        each("guidance_scale"),
        each("stg_scale"),
        each("rescaling_scale"),
        tuple(map(tuple, blocks)),
        params.get("cfg_star_rescale", False),
    )


def prompts(case: Case) -> tuple[EncodedPrompt, EncodedPrompt]:
    """Returns the encoded prompt and the encoded negative prompt."""
    positive, negative = (
        EncodedPrompt(case.given[name].to(case.dtype), case.given[f"{name}.mask"]) for name in ("prompt", "negative")
    )
    return positive, negative


def statistics(case: Case) -> Statistics:
    """Returns the given mean and standard deviation of the latents."""
    return Statistics(*(case.given[name].view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")))


def pass_setup(case: Case, step: dict[str, Any], width: int, height: int) -> PassSetup:
    """Returns one pass of a case, with the parameters that it states as `step`."""
    levels = noise_levels(
        step["num_inference_steps"],
        step.get("skip_initial_inference_steps", 0),
        step.get("skip_final_inference_steps", 0),
    )
    return PassSetup(
        Guide(Replicas(case.model("ltxv_transformer"), case.device), *prompts(case), guidance_of(step)),
        levels,
        Grid(8, 32, Fraction(case.params["fps"])),
        (width, height),
        conditioning_noise=step["image_cond_noise_scale"],
    )


def loop(case: Case, count: int, noise: Callable[[int, int], Noise]) -> Loop:
    """Returns the loop over `count` windows, with noise by the numbers of the pass and of the window."""
    return Loop(count, 1, noise, NO_RESUME, ignore_progress, case.device)


def one_scale(case: Case) -> Results:
    """An extension in one pass."""
    params = case.params
    items = [ConditioningItem(case.given["context.latent"], 0, params["strength"])]
    if "keyframe.latent" in case.given:
        items.append(
            ConditioningItem(case.given["keyframe.latent"], params["keyframe_frame_index"], params["keyframe_strength"])
        )
    if "suffix.latent" in case.given:
        items.append(ConditioningItem(case.given["suffix.latent"], params["suffix_start"], params["suffix_strength"]))
    setup = pass_setup(case, params["pass"], params["width"], params["height"])
    yield "timesteps", setup.levels
    setup = replace(setup, levels=case.expected["timesteps"])
    shape = (1, 6, (params["frames"] - 1) // 8 + 1, params["height"] // 32, params["width"] // 32)
    noise = recorded_noise(case.given, "noise.")
    sequence = place(items, shape, setup.grid, noise)
    yield "conditioning_mask", sequence.mask
    for number, state in enumerate(trajectory(setup, sequence, noise)):
        yield f"state.{number:03d}", state
    yield "latent", sample(setup, shape, items, noise)


def two_scales(case: Case, set_pass: SetPass = lambda number: None) -> Results:
    """An extension in two passes. `set_pass` is called before each pass and after the last one."""
    params, frames = case.params, (case.params["frames"] - 1) // 8 + 1

    def pass_of(number: int) -> PassSetup:
        step = params["first_pass" if number == 1 else "second_pass"]
        height, width = params[f"pass{number}_size"]
        return pass_setup(case, step, width, height)

    upsampler = case.model("ltxv_upsampler")
    setup = Setup(
        (pass_of(1), pass_of(2)),
        (Window(0, frames),),
        overlap_latents=3,
        overlap_strength=0.5,
        temporal_adain_factor=0.5,
        upsampler=upsampler,
        statistics=statistics(case),
        set_pass=set_pass,
    )
    context = [[ConditioningItem(case.given[f"context.pass{n}.latent"], 0, params["strength"])] for n in (1, 2)]
    noise = loop(case, 1, lambda number, _: recorded_noise(case.given, f"noise.pass{number + 1}."))
    (video,) = sample_video(setup, context, noise)
    first, second = video.latents
    yield "pass1.latent", first
    larger = upsample(upsampler, first, statistics(case))
    yield "upsampled", larger
    yield "upsampled_adain", adain(larger, first)
    yield "pass2.latent", second
    yield "tone_mapped", tone_map(second, params["tone_map_compression_ratio"])


def long_video(case: Case) -> Results:
    """An extension in several windows."""
    params = case.params
    plan = plan_windows(params["total_latent_frames"], params["tile_latents"], params["overlap_latents"])
    none = torch.zeros(1, 6, 1, 1, 1, device=case.device)
    setup = Setup(
        (pass_setup(case, params["pass"], params["width"], params["height"]),),
        plan,
        params["overlap_latents"],
        params["overlap_strength"],
        params["adain_factor"],
        upsampler=None,
        statistics=Statistics(none, none + 1),
    )
    context = [[ConditioningItem(case.given["context.latent"], 0, params["context_strength"])]]

    def noise(_: int, window: int) -> Noise:
        return recorded_noise(case.given, f"noise.chunk{window}.")

    videos = list(sample_video(setup, context, loop(case, len(plan), noise)))
    for number, video in enumerate(videos):
        yield f"after_chunk{number}", video.latents[0]
    yield "latent", videos[-1].latents[0]


def fusing(case: Case) -> Results:
    """The colours of a window, and its fusing with the video before it."""
    for one in case.params["fuse"]:
        key = one["key"]
        first, previous, raw = (case.given[f"{key}.{part}"] for part in ("first", "previous", "raw"))
        yield f"{key}.adain", adain(raw, first, one["adain_factor"])
        yield f"{key}.fused", fuse(previous, raw, first, one["overlap"], one["adain_factor"])


def forward(case: Case) -> Results:
    """Evaluations of the transformer."""
    params, positive = case.params, prompts(case)[0]
    shape = tuple(params[f"latent_{side}"] for side in ("frames", "height", "width"))
    coords = Grid(8, 32, Fraction(params["fps"])).coords(*shape)
    yield "coords_check", coords
    net, tokens, coords = case.model("ltxv_transformer"), case.given["tokens"], coords.to(case.device)
    uniform = TokenLevels.of(torch.full(tokens.shape[:2], params["uniform_timestep"], device=case.device))
    yield "uniform", velocity(net, tokens, uniform, coords, positive)
    own = TokenLevels.of(case.given["token_timestep"])
    with value_attention(net, tuple(params["stg_blocks"])):
        yield "per_token_stg", velocity(net, tokens, own, coords, positive)
    yield "per_token", velocity(net, tokens, own, coords, positive)


def adapters(case: Case) -> Results:
    """Evaluations with adapters of several strengths."""
    net, given = case.model("ltxv_transformer"), case.given
    levels = TokenLevels.of(torch.full(given["tokens"].shape[:2], case.params["timestep"], device=case.device))
    for run, files in case.params["runs"].items():
        loaded: list[LoadedAdapter] = [(read(case.root / case.name / file), (scale,)) for file, scale in files]
        with applied(net, loaded, case.way) as set_pass:
            set_pass(0)
            yield run, velocity(net, given["tokens"], levels, given["coords"], prompts(case)[0])


def upsampler(case: Case) -> Results:
    """The upsampler, AdaIN and the tone map."""
    latent = case.given["latent"]
    larger = upsample(case.model("ltxv_upsampler"), latent, statistics(case))
    yield "upsampled", larger
    yield "adain_1", adain(larger, latent)
    yield "adain_factor", adain(larger, latent, case.params["adain_factor"])
    for compression in case.params["compression"]:
        yield f"tone_map_{compression}", tone_map(3 * latent, compression)


def vae(case: Case) -> Results:
    """The video VAE, and what is done to latents before they are decoded."""
    net, time = case.model("ltxv_vae"), case.params["decode_timestep"]
    norm = Statistics.of(net, case.device)
    mode = net.encode(case.given["pixels"].to(case.dtype)).latent_dist.mode()
    yield "encoded", norm.normalise(mode.float())
    noised = noised_for_decoder(case.given["latent"], case.given["noise"], case.params["decode_noise_scale"])
    yield "noised", noised
    mapped = tone_map(noised, case.params["tone_map_compression_ratio"])
    yield "tone_mapped", mapped
    yield "decoded", decode(net, norm.unnormalise(mapped), time).transpose(0, 1)[None]
    plain = decode(net, norm.unnormalise(case.given["latent"]), time).transpose(0, 1)[None]
    yield "decoded_plain", plain[:, :, : case.params["decoded_plain_frames"]]
