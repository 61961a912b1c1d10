"""The cases of LTX-2: how this package computes each. Results are (name, tensor), named as in the oracle."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from bench.oracle.case import Case
from bench.oracle.recorded import recorded_noise
from bench.oracle.ways import applied
from longtake.families.ltx2.conditioning import WindowConditioning
from longtake.families.ltx2.guidance import UNGUIDED, Guide, guided, predict
from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.sampler import PassSetup, Sampler, Setup, sample_window, trajectory
from longtake.families.ltx2.tracks import Keyframe, PlacedLatents, Track, audio_track, video_track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, Tokens, velocities
from longtake.models.loras import LoadedAdapter, read
from longtake.models.replicas import Copy, Replicas
from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_from, to_latent
from longtake.sampling.vae import Statistics, upsample

STREAMS: tuple[Stream, ...] = ("video", "audio")

Results = Iterator[tuple[str, Tensor]]


def scales_of(scales: Mapping[str, float]) -> GuidanceScales:
    """Returns the guidance scales of a modality that a case asks for."""
    return GuidanceScales(cfg=scales["cfg"], stg=scales["stg"], modality=scales["mod"], rescale=scales["resc"])


def prompt(case: Case, name: str) -> EncodedPrompt:
    """Returns the encoded prompt of this name, `prompt` or `negative`."""
    return EncodedPrompt(*(case.given[f"{name}.{stream}"].to(case.dtype) for stream in STREAMS))


def guide(case: Case, copies: Sequence[Case] = ()) -> Guide:
    """Returns the guidance that a case asks for. The models of `copies` share out the predictions."""
    scales = {stream: scales_of(case.params[f"{stream}_guidance"]) for stream in STREAMS}
    net, *others = (one.model("ltx2_transformer") for one in (case, *copies))
    replicas = Replicas(net, case.device, tuple(Copy(other, case.device) for other in others))
    return Guide(replicas, prompt(case, "prompt"), prompt(case, "negative"), scales, case.params["stg_blocks"])


def statistics(case: Case) -> Statistics:
    """Returns the given mean and standard deviation of the latents."""
    return Statistics(*(case.given[name].view(1, -1, 1, 1, 1) for name in ("latents_mean", "latents_std")))


def audio_tokens(latent: Tensor) -> Tensor:
    """Returns audio latents [1, C, T, bins] as tokens [1, T, C * bins]."""
    return latent.permute(0, 2, 1, 3).flatten(2)


def audio_latent(tokens: Tensor, like: Tensor) -> Tensor:
    """Returns audio tokens as latents with the channels and bins of `like`."""
    latent: Tensor = tokens.unflatten(2, (like.shape[1], like.shape[3])).permute(0, 2, 1, 3)
    return latent


def forward_tracks(case: Case, context: Tensor, keyframe: Tensor | None, audio: bool) -> dict[Stream, Track]:
    """Returns the tracks of a forward extension of the latents `context`."""
    params = case.params
    grid = Grid(8, 32, Fraction(params["fps"]))
    shape = (1, context.shape[1], (params["frames"] - 1) // 8 + 1, *context.shape[3:])
    image = None if keyframe is None else Keyframe(keyframe, params["frames"] - 1, params["end_strength"])
    placed = [PlacedLatents(context, 0, params["video_strength"])]
    tracks: dict[Stream, Track] = {"video": video_track(grid, shape, placed, image, device=case.device)}
    if audio:
        known = audio_tokens(case.given["audio.context.latent"])
        count = round(params["frames"] / params["fps"] * 25)
        clean = torch.cat([known, known.new_zeros(1, count - known.shape[1], known.shape[2])], 1)
        held = audio_before(count, params["context_frames"] / grid.rate)
        tracks["audio"] = audio_track(clean, held, params["audio_strength"], audio_bounds(count))
    return tracks


def backward_tracks(case: Case) -> dict[Stream, Track]:
    """Returns the tracks of a backward extension."""
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
        "video": video_track(grid, tuple(window.shape), placed, device=case.device),
        "audio": audio_track(audio, held, params["audio_strength"], audio_bounds(audio.shape[1])),
    }


def extension_tracks(case: Case) -> dict[Stream, Track]:
    """Returns the tracks of an extension in one pass."""
    if case.params["direction"] == "backward":
        return backward_tracks(case)
    keyframe = case.given.get("video.keyframe.latent")
    return forward_tracks(case, case.given["video.context.latent"], keyframe, case.params.get("audio", True))


def extension(case: Case, at_once: int = 4, copies: Sequence[Case] = ()) -> Results:
    """An extension in one pass. At most `at_once` predictions are made in one evaluation. The models of `copies` of the
    case share them out."""
    tracks = extension_tracks(case)
    for stream, track in tracks.items():
        yield f"{stream}.positions", track.bounds
        yield f"{stream}.denoise_mask", track.mask
    guided_net = replace(guide(case, copies), at_once=at_once)
    positioned = guided_net.positioned(tracks)

    def predict_clean(tokens: Tokens, step: int, sigma: float) -> dict[Stream, Tensor]:
        return predict(guided_net, tracks, positioned, tokens, sigma)

    requested = case.params["sampler"]
    sampler = Sampler(case.given["sigmas"], requested.get("gamma", 0), requested.get("eta", 0))
    *states, made = trajectory(tracks, sampler, predict_clean, recorded_noise(case.given, "noise."))
    for stream, track in tracks.items():
        for step, state in enumerate(states, 1):
            yield f"{stream}.state.{step:03d}", state[stream]
        yield f"{stream}.tokens", made[stream]
        wanted, out = case.expected[f"{stream}.latent"], track.result(made[stream])
        latent = to_latent(out, tuple(wanted.shape)) if stream == "video" else audio_latent(out, wanted)
        yield f"{stream}.latent", latent


def two_scales(case: Case) -> Results:
    """An extension in two passes, with an adapter if the case has one."""
    known, params = case.given, case.params
    tracks = [
        forward_tracks(case, known[f"video.context.stage{scale}"], known[f"video.keyframe.stage{scale}"], True)
        for scale in (1, 2)
    ]
    yield "stage1.audio.denoise_mask", tracks[0]["audio"].mask
    shapes = [tuple(case.expected[name].shape) for name in ("stage1.video.latent", "stage2.noised.video.latent")]
    adapters: list[LoadedAdapter] = []
    if "lora_file" in params:
        adapters.append((read(case.root / case.name / params["lora_file"]), tuple(params["lora_strengths"])))
    first = guide(case)
    refining = replace(first, negative=None, scales=dict.fromkeys(STREAMS, UNGUIDED))
    passes = (
        PassSetup(first, Sampler(known["sigmas.stage1"])),
        PassSetup(refining, Sampler(known["sigmas.stage2"])),
    )
    conditioning = WindowConditioning([track["video"] for track in tracks], shapes, tracks[0]["audio"])
    with applied(first.replicas.transformer, adapters, case.way) as set_pass:
        setup = Setup(passes, case.model("ltx2_upsampler"), statistics(case), set_pass)
        sampled = sample_window(setup, conditioning, lambda number: recorded_noise(known, f"noise.stage{number + 1}."))
    yield "stage2.noised.video.latent", sampled["video"]
    yield "stage1.audio.latent", audio_latent(sampled["audio"], case.expected["stage1.audio.latent"])


def guidance(case: Case) -> Results:
    """Guided predictions from given ones."""
    for combination in case.params["combinations"]:
        for stream in STREAMS:
            cond, *others = (case.given[f"{stream}.{name}"] for name in ("cond", "uncond", "stg", "modality"))
            negative, disturbed, isolated = others
            made = guided(cond, negative, disturbed, isolated, scales_of(combination[stream]))
            yield f"{combination['key']}.{stream}", made


RUNS: dict[str, tuple[frozenset[Stream], bool]] = {
    "context": (frozenset(), False),
    "context_stg_video": (frozenset({"video"}), False),
    "context_stg_both": (frozenset({"video", "audio"}), False),
    "context_stg_audio": (frozenset({"audio"}), False),
    "context_isolated": (frozenset(), True),
}
"""The predictions of one evaluation: the disturbed modalities, and whether video and audio are isolated."""


def given_tracks(case: Case) -> dict[Stream, Track]:
    """Returns the tracks whose tokens, masks and positions are given."""
    given = case.given
    return {
        stream: Track(given[f"{stream}.tokens"], given[f"{stream}.denoise_mask"], given[f"{stream}.positions"])
        for stream in STREAMS
    }


def forward(case: Case) -> Results:
    """Evaluations of the transformer, one of them with five predictions."""
    net, params, tracks = case.model("ltx2_transformer"), case.params, given_tracks(case)
    tokens = {stream: track.clean for stream, track in tracks.items()}
    predictions = [Prediction(prompt(case, "prompt"), *how) for how in RUNS.values()]
    positioned, sigma = PositionedTracks.of(net, tracks), params["sigma_video"]
    made = velocities(net, positioned, tokens, sigma, predictions, params["stg_blocks"])
    for row, name in enumerate(RUNS):
        for stream in STREAMS:
            yield f"{name}.{stream}", made[stream][row : row + 1]

    def alone(tracks: dict[Stream, Track]) -> dict[Stream, Tensor]:
        own = {stream: tokens[stream] for stream in tracks}
        return velocities(net, PositionedTracks.of(net, tracks), own, sigma, predictions[:1], [])

    free = {stream: Track(track.clean, torch.ones_like(track.mask), track.bounds) for stream, track in tracks.items()}
    held = Track(tracks["audio"].clean, torch.zeros_like(tracks["audio"].mask), tracks["audio"].bounds)
    for name, some in (("uniform", free), ("context_audio_frozen", {**tracks, "audio": held})):
        for stream, velocity in alone(some).items():
            yield f"{name}.{stream}", velocity
    yield "video_only.video", alone({"video": tracks["video"]})["video"]


def adapters(case: Case) -> Results:
    """Evaluations with adapters of several strengths."""
    net, tracks = case.model("ltx2_transformer"), given_tracks(case)
    tokens = {stream: track.clean for stream, track in tracks.items()}
    positioned, prediction = PositionedTracks.of(net, tracks), Prediction(prompt(case, "prompt"))
    for run, files in case.params["runs"].items():
        loaded: list[LoadedAdapter] = [(read(case.root / case.name / file), (scale,)) for file, scale in files]
        with applied(net, loaded, case.way) as set_pass:
            set_pass(0)
            made = velocities(net, positioned, tokens, case.params["sigma"], [prediction], ())
        for stream, velocity in made.items():
            yield f"{run}.{stream}", velocity


def upsampler(case: Case) -> Results:
    """The upsampler."""
    yield "upsampled", upsample(case.model("ltx2_upsampler"), case.given["latent"], statistics(case))
