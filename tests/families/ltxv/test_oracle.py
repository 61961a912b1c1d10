"""The 0.9.x recipe against the original implementation, tensor by tensor."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from longtake.families.ltxv.colour import adain, tone_map
from longtake.families.ltxv.conditioning import ConditioningItem, place
from longtake.families.ltxv.frame_counts import Window, plan_windows
from longtake.families.ltxv.fuse import fuse
from longtake.families.ltxv.guidance import Guide, value_attention, velocity
from longtake.families.ltxv.profiles import Guidance
from longtake.families.ltxv.sampler import PassSetup, Setup, sample, sample_video, trajectory
from longtake.models.replicas import Replicas
from longtake.models.t5 import EncodedPrompt
from longtake.models.video_transformer import TokenLevels, attach
from longtake.sampling.noise import Noise
from longtake.sampling.positions import Grid
from longtake.sampling.resume import NO_RESUME
from longtake.sampling.schedules import noise_levels
from longtake.sampling.vae import Statistics, decode, noised_for_decoder, upsample
from longtake.sampling.windows import Loop
from longtake.video import ignore_progress
from tests.conftest import Case, load_case
from tests.sampling.recorded import recorded_noise


def guidance_of(params: dict[str, Any]) -> Guidance:
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


def texts(case: Case) -> tuple[EncodedPrompt, EncodedPrompt]:
    read = case.given
    return EncodedPrompt(read["prompt"], read["prompt.mask"]), EncodedPrompt(read["negative"], read["negative.mask"])


def transformer(case: Case) -> nn.Module:
    net = case.model("ltxv_transformer")
    attach(net)
    return net


def statistics(case: Case) -> Statistics:
    return Statistics(*(case.given[name].view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")))


def pass_setup(case: Case, step: dict[str, Any], width: int, height: int) -> PassSetup:
    """One pass of a case, with the parameters that it states as `step`."""
    levels = noise_levels(
        step["num_inference_steps"],
        step.get("skip_initial_inference_steps", 0),
        step.get("skip_final_inference_steps", 0),
    )
    return PassSetup(
        Guide(Replicas(transformer(case)), *texts(case), guidance_of(step)),
        levels,
        Grid(8, 32, Fraction(case.params["fps"])),
        (width, height),
        conditioning_noise=step["image_cond_noise_scale"],
    )


def loop(count: int, noise: Callable[[int, int], Noise]) -> Loop:
    return Loop(count, 1, noise, NO_RESUME, ignore_progress, torch.device("cpu"))


@pytest.mark.parametrize("name", ["s1", "s06", "keyframe", "suffix"])
def test_one_scale(oracle: Path, name: str) -> None:
    case = load_case(oracle, f"ltxv_extend_single_{name}")
    params, step = case.params, case.params["pass"]
    items = [ConditioningItem(case.given["context.latent"], 0, params["strength"])]
    if "keyframe.latent" in case.given:
        items.append(
            ConditioningItem(case.given["keyframe.latent"], params["keyframe_frame_index"], params["keyframe_strength"])
        )
    if "suffix.latent" in case.given:
        items.append(ConditioningItem(case.given["suffix.latent"], params["suffix_start"], params["suffix_strength"]))
    setup = pass_setup(case, step, params["width"], params["height"])
    case.check("timesteps", setup.levels)
    setup = replace(setup, levels=case.expected["timesteps"])
    shape = (1, 6, (params["frames"] - 1) // 8 + 1, params["height"] // 32, params["width"] // 32)
    noise = recorded_noise(case.given, "noise.")
    sequence = place(items, shape, setup.grid, noise)
    case.check("conditioning_mask", sequence.mask)
    for number, state in enumerate(trajectory(setup, sequence, noise)):
        case.check(f"state.{number:03d}", state)
    case.check("latent", sample(setup, shape, items, noise))


@pytest.mark.parametrize("name", ["ltxv_extend_two_scale", "ltxv_extend_two_scale_dev"])
def test_two_scales(oracle: Path, name: str) -> None:
    case = load_case(oracle, name)
    params, frames = case.params, (case.params["frames"] - 1) // 8 + 1

    def pass_of(number: int) -> PassSetup:
        step = params["first_pass" if number == 1 else "second_pass"]
        height, width = params[f"pass{number}_size"]
        return pass_setup(case, step, width, height)

    begun: list[int | None] = []
    setup = Setup(
        (pass_of(1), pass_of(2)),
        (Window(0, frames),),
        overlap_latents=3,
        overlap_strength=0.5,
        temporal_adain_factor=0.5,
        upsampler=case.model("ltxv_upsampler"),
        statistics=statistics(case),
        set_pass=begun.append,
    )
    context = [[ConditioningItem(case.given[f"context.pass{n}.latent"], 0, params["strength"])] for n in (1, 2)]
    (video,) = sample_video(
        setup, context, loop(1, lambda number, _: recorded_noise(case.given, f"noise.pass{number + 1}."))
    )
    assert begun == [0, 1, None], "the adapters' strengths are set before each pass"
    first, second = video.latents
    case.check("pass1.latent", first)
    larger = upsample(case.model("ltxv_upsampler"), first, statistics(case))
    case.check("upsampled", larger)
    case.check("upsampled_adain", adain(larger, first))
    case.check("pass2.latent", second)
    case.check("tone_mapped", tone_map(second, params["tone_map_compression_ratio"]))


def test_long_video(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_long")
    params = case.params
    plan = plan_windows(params["total_latent_frames"], params["tile_latents"], params["overlap_latents"])
    assert [{"start": w.start, "end": w.stop} for w in plan] == params["plan"]
    setup = Setup(
        (pass_setup(case, params["pass"], params["width"], params["height"]),),
        plan,
        params["overlap_latents"],
        params["overlap_strength"],
        params["adain_factor"],
        upsampler=None,
        statistics=Statistics(torch.zeros(1, 6, 1, 1, 1), torch.ones(1, 6, 1, 1, 1)),
    )
    context = [[ConditioningItem(case.given["context.latent"], 0, params["context_strength"])]]

    def noise(_: int, window: int) -> Noise:
        return recorded_noise(case.given, f"noise.chunk{window}.")

    videos = list(sample_video(setup, context, loop(len(plan), noise)))
    for number, video in enumerate(videos):
        case.check(f"after_chunk{number}", video.latents[0])
    case.check("latent", videos[-1].latents[0])


def test_window_plans_and_fusing(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_long_chunks")
    for plan in case.params["plans"]:
        got = plan_windows(plan["total"], plan["tile"], plan["overlap"])
        assert [[w.start, w.stop] for w in got] == plan["plan"]
    for fusing in case.params["fuse"]:
        key = fusing["key"]
        first, previous, raw = (case.given[f"{key}.{part}"] for part in ("first", "previous", "raw"))
        case.check(f"{key}.adain", adain(raw, first, fusing["adain_factor"]))
        case.check(f"{key}.fused", fuse(previous, raw, first, fusing["overlap"], fusing["adain_factor"]))


def test_transformer_forward(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_transformer")
    params, positive = case.params, texts(case)[0]
    shape = tuple(params[f"latent_{side}"] for side in ("frames", "height", "width"))
    coords = Grid(8, 32, Fraction(params["fps"])).coords(*shape)
    case.check("coords_check", coords)
    net, tokens = transformer(case), case.given["tokens"]
    uniform = TokenLevels.of(torch.full(tokens.shape[:2], params["uniform_timestep"]))
    case.check("uniform", velocity(net, tokens, uniform, coords, positive))
    own = TokenLevels.of(case.given["token_timestep"])
    case.check("per_token", velocity(net, tokens, own, coords, positive))
    with value_attention(net, tuple(params["stg_blocks"])):
        case.check("per_token_stg", velocity(net, tokens, own, coords, positive))
    case.check("per_token", velocity(net, tokens, own, coords, positive))


def test_upsampler_adain_tone_map(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_upsampler_adain")
    latent = case.given["latent"]
    larger = upsample(case.model("ltxv_upsampler"), latent, statistics(case))
    case.check("upsampled", larger)
    case.check("adain_1", adain(larger, latent))
    case.check("adain_factor", adain(larger, latent, case.params["adain_factor"]))
    for compression in case.params["compression"]:
        case.check(f"tone_map_{compression}", tone_map(3 * latent, compression))


def test_vae(oracle: Path) -> None:
    case = load_case(oracle, "ltxv_vae")
    vae: Any = case.model("ltxv_vae")
    norm = Statistics.of(vae)
    pixels = case.given["pixels"]
    case.check("encoded", norm.normalise(vae.encode(pixels).latent_dist.mode()))
    noised = noised_for_decoder(case.given["latent"], case.given["noise"], case.params["decode_noise_scale"])
    case.check("noised", noised)
    mapped = tone_map(noised, case.params["tone_map_compression_ratio"])
    case.check("tone_mapped", mapped)
    time = case.params["decode_timestep"]
    case.check("decoded", decode(vae, norm.unnormalise(mapped), time).transpose(0, 1)[None])
    plain = decode(vae, norm.unnormalise(case.given["latent"]), time).transpose(0, 1)[None]
    case.check("decoded_plain", plain[:, :, : case.params["decoded_plain_frames"]])
