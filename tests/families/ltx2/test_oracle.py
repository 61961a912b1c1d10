"""The LTX-2 recipe against the original implementation, tensor by tensor."""

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.families.ltx2.conditioning import WindowConditioning
from longtake.families.ltx2.guidance import UNGUIDED, Guide, guided, predict
from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.sampler import PassSetup, Sampler, Setup, sample_window, trajectory
from longtake.families.ltx2.tracks import Keyframe, PlacedLatents, Track, audio_track, video_track
from longtake.models.applying import applied
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, Tokens, attach, velocities
from longtake.models.loras import LoadedAdapter, read
from longtake.models.replicas import Copy, Replicas
from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_from, to_latent
from longtake.sampling.schedules import SECOND_PASS_LEVELS
from longtake.sampling.vae import Statistics, upsample
from tests.conftest import Case, load_case
from tests.sampling.recorded import recorded_noise

STREAMS: tuple[Stream, ...] = ("video", "audio")


def scales_of(scales: Mapping[str, float]) -> GuidanceScales:
    return GuidanceScales(cfg=scales["cfg"], stg=scales["stg"], modality=scales["mod"], rescale=scales["resc"])


def prompt(case: Case, name: str) -> EncodedPrompt:
    return EncodedPrompt(case.given[f"{name}.video"], case.given[f"{name}.audio"])


def guide(case: Case, net: Any) -> Guide:
    scales = {stream: scales_of(case.params[f"{stream}_guidance"]) for stream in STREAMS}
    return Guide(Replicas(net), prompt(case, "prompt"), prompt(case, "negative"), scales, case.params["stg_blocks"])


def transformer(case: Case) -> Any:
    net = case.model("ltx2_transformer")
    attach(net)
    return net


def audio_tokens(latent: Tensor) -> Tensor:
    return latent.permute(0, 2, 1, 3).flatten(2)


def audio_latent(tokens: Tensor, like: Tensor) -> Tensor:
    latent: Tensor = tokens.unflatten(2, (like.shape[1], like.shape[3])).permute(0, 2, 1, 3)
    return latent


def forward_tracks(case: Case, context: Tensor, keyframe: Tensor | None, audio: bool) -> dict[Stream, Track]:
    params = case.params
    grid = Grid(8, 32, Fraction(params["fps"]))
    shape = (1, context.shape[1], (params["frames"] - 1) // 8 + 1, *context.shape[3:])
    image = None if keyframe is None else Keyframe(keyframe, params["frames"] - 1, params["end_strength"])
    tracks: dict[Stream, Track] = {
        "video": video_track(grid, shape, [PlacedLatents(context, 0, params["video_strength"])], image)
    }
    if audio:
        known = audio_tokens(case.given["audio.context.latent"])
        count = round(params["frames"] / params["fps"] * 25)
        clean = torch.cat([known, torch.zeros(1, count - known.shape[1], known.shape[2])], 1)
        held = audio_before(count, params["context_frames"] / grid.rate)
        tracks["audio"] = audio_track(clean, held, params["audio_strength"], audio_bounds(count))
    return tracks


def backward_tracks(case: Case) -> dict[Stream, Track]:
    params, known = case.params, case.given
    grid = Grid(8, 32, Fraction(params["fps"]))
    window = known["video.window.latent"]
    new = params["frames"] - params["context_frames"]
    first = (new - 1) // 8 + 1
    placed = [PlacedLatents(window[:, :, first:], first, params["video_strength"])]
    if "video.first_image.latent" in known:
        placed.append(PlacedLatents(known["video.first_image.latent"], 0, params["first_image_strength"]))
    audio = audio_tokens(known["audio.window.latent"])
    held = audio_from(audio.shape[1], new / grid.rate)
    return {
        "video": video_track(grid, tuple(window.shape), placed),
        "audio": audio_track(audio, held, params["audio_strength"], audio_bounds(audio.shape[1])),
    }


def sampler(case: Case) -> Sampler:
    requested = case.params["sampler"]
    return Sampler(case.given["sigmas"], requested.get("gamma", 0), requested.get("eta", 0))


EXTENSIONS = (
    "forward_s1",
    "forward_s07",
    "forward_ge",
    "forward_ancestral",
    "forward_noaudio",
    "backward_s1",
    "backward_s08",
)


@pytest.mark.parametrize(
    ("name", "at_once", "devices"),
    [
        *((name, at_once, 1) for at_once in (1, 4) for name in EXTENSIONS),
        ("forward_s1", 4, 2),
        ("forward_noaudio", 4, 3),
        ("backward_s1", 1, 3),
    ],
)
def test_extension(oracle: Path, name: str, at_once: int, devices: int) -> None:
    case = load_case(oracle, f"ltx2_extend_{name}")
    if case.params["direction"] == "forward":
        keyframe = case.given.get("video.keyframe.latent")
        tracks = forward_tracks(case, case.given["video.context.latent"], keyframe, case.params.get("audio", True))
    else:
        tracks = backward_tracks(case)
    for stream, track in tracks.items():
        case.check(f"{stream}.positions", track.bounds)
        case.check(f"{stream}.denoise_mask", track.mask)
        wanted = case.expected[f"{stream}.clean"]
        assert torch.equal(track.clean[track.mask.expand_as(wanted) < 1], wanted[track.mask.expand_as(wanted) < 1])
    net, *others = (transformer(case) for _ in range(devices))
    replicas = Replicas(net, copies=tuple(Copy(other, torch.device("cpu")) for other in others))
    guided_net = replace(guide(case, net), at_once=at_once, replicas=replicas)
    positioned = guided_net.positioned(tracks)

    def predict_clean(tokens: Tokens, step: int, sigma: float) -> dict[Stream, Tensor]:
        return predict(guided_net, tracks, positioned, tokens, sigma)

    noise = recorded_noise(case.given, "noise.")
    *states, made = trajectory(tracks, sampler(case), predict_clean, noise)
    for stream, track in tracks.items():
        for step, state in enumerate(states, 1):
            case.check(f"{stream}.state.{step:03d}", state[stream])
        case.check(f"{stream}.tokens", made[stream])
        wanted = case.expected[f"{stream}.latent"]
        out = track.result(made[stream])
        case.check(
            f"{stream}.latent",
            to_latent(out, tuple(wanted.shape)) if stream == "video" else audio_latent(out, wanted),
        )


def test_guidance(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_guidance")
    for combination in case.params["combinations"]:
        for stream in STREAMS:
            cond, *others = (case.given[f"{stream}.{name}"] for name in ("cond", "uncond", "stg", "modality"))
            negative, disturbed, isolated = others
            made = guided(cond, negative, disturbed, isolated, scales_of(combination[stream]))
            case.check(f"{combination['key']}.{stream}", made)


RUNS: dict[str, tuple[frozenset[Stream], bool]] = {
    "context": (frozenset(), False),
    "context_stg_video": (frozenset({"video"}), False),
    "context_stg_both": (frozenset({"video", "audio"}), False),
    "context_stg_audio": (frozenset({"audio"}), False),
    "context_isolated": (frozenset(), True),
}


def test_one_evaluation_makes_every_prediction(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_transformer_context")
    net, params = transformer(case), case.params
    tracks: dict[Stream, Track] = {
        stream: Track(
            case.given[f"{stream}.tokens"], case.given[f"{stream}.denoise_mask"], case.given[f"{stream}.positions"]
        )
        for stream in STREAMS
    }
    tokens = {stream: track.clean for stream, track in tracks.items()}
    predictions = [Prediction(prompt(case, "prompt"), *how) for how in RUNS.values()]
    made = velocities(
        net, PositionedTracks.of(net, tracks), tokens, params["sigma_video"], predictions, params["stg_blocks"]
    )
    for row, name in enumerate(RUNS):
        for stream in STREAMS:
            case.check(f"{name}.{stream}", made[stream][row : row + 1])

    def alone(tracks: dict[Stream, Track]) -> dict[Stream, Tensor]:
        own = {stream: tokens[stream] for stream in tracks}
        return velocities(net, PositionedTracks.of(net, tracks), own, params["sigma_video"], predictions[:1], [])

    free = {stream: Track(track.clean, torch.ones_like(track.mask), track.bounds) for stream, track in tracks.items()}
    held = Track(tracks["audio"].clean, torch.zeros_like(tracks["audio"].mask), tracks["audio"].bounds)
    for name, some in (("uniform", free), ("context_audio_frozen", {**tracks, "audio": held})):
        for stream, velocity in alone(some).items():
            case.check(f"{name}.{stream}", velocity)
    case.check("video_only.video", alone({"video": tracks["video"]})["video"])


def test_upsampler(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_upsampler")
    larger = upsample(case.model("ltx2_upsampler"), case.given["latent"], statistics(case))
    case.check("upsampled", larger)


def statistics(case: Case) -> Statistics:
    return Statistics(*(case.given[name].view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")))


@pytest.mark.parametrize("name", ["ltx2_two_stage", "ltx2_two_stage_lora"])
def test_two_scales(oracle: Path, name: str) -> None:
    case = load_case(oracle, name)
    net, known, params = transformer(case), case.given, case.params
    scales = (1, 2)
    tracks = [
        forward_tracks(case, known[f"video.context.stage{scale}"], known[f"video.keyframe.stage{scale}"], True)
        for scale in scales
    ]
    case.check("stage1.audio.denoise_mask", tracks[0]["audio"].mask)
    assert torch.equal(known["sigmas.stage2"], torch.tensor(SECOND_PASS_LEVELS))
    shapes = [tuple(case.expected[f"stage{scale}.{end}"].shape) for scale, end in zip(scales, ENDS, strict=True)]
    adapters: list[LoadedAdapter] = []
    if "lora_file" in params:
        adapters.append((read(case.root / name / params["lora_file"]), tuple(params["lora_strengths"])))
    refining = replace(guide(case, net), negative=None, scales=dict.fromkeys(STREAMS, UNGUIDED))
    passes = (
        PassSetup(guide(case, net), Sampler(known["sigmas.stage1"])),
        PassSetup(refining, Sampler(known["sigmas.stage2"])),
    )
    conditioning = WindowConditioning([track["video"] for track in tracks], shapes, tracks[0]["audio"])
    with applied(net, adapters) as set_pass:
        setup = Setup(passes, case.model("ltx2_upsampler"), statistics(case), set_pass)
        sampled = sample_window(setup, conditioning, lambda number: recorded_noise(known, f"noise.stage{number + 1}."))
    case.check("stage2.noised.video.latent", sampled.video)
    wanted = case.expected["stage1.audio.latent"]
    assert sampled.audio is not None
    case.check("stage1.audio.latent", audio_latent(sampled.audio, wanted))


ENDS = ("video.latent", "noised.video.latent")
