"""Compares the peak memory of one evaluation in this package and in diffusers. This package stores modulation per noise
level, diffusers per token.

    python -m bench.modulation

The weights are random and of the published width (4096 channels, for the audio of LTX-2 2048; one block, float32).
There are 1140 video tokens, a quarter of those in the first pass of LTX-2's endpoint at its defaults at 1280x704. A
fifth of the tokens are context. Each implementation runs in a process of its own; memory allocated before the
evaluation is not counted.
"""

import resource
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel, LTXVideoTransformer3DModel

from bench.loop_ltx2 import LAYOUT
from longtake.families.ltx2.tracks import PlacedLatents, audio_track, video_track
from longtake.families.ltxv.guidance import velocity
from longtake.models import audiovisual, t5, video_transformer
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, velocities
from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_latents

FRAMES, CONTEXT = 145, 25
SHAPE = (1, 128, 19, 6, 10)
RATE = Fraction(24)

Evaluation = Callable[[], object]


def peak_mib() -> float:
    """Returns the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def random_model(cls: Any, **config: Any) -> Any:
    """Returns a transformer of one block with random weights."""
    with torch.device("meta"):
        model = cls(num_layers=1, **config)
    model = model.to_empty(device="cpu").eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    return model


def ltx2(*, here: bool) -> Evaluation:
    """Returns an evaluation of LTX-2 in this package (`here`) or in diffusers."""
    count = audio_latents(FRAMES, RATE)
    model = random_model(
        LTX2VideoTransformer3DModel,
        **LAYOUT,
    )
    context = torch.randn(1, 128, 4, *SHAPE[3:])
    video = video_track(Grid(8, 32, RATE), SHAPE, [PlacedLatents(context, 0, 1.0)])
    audio = audio_track(torch.randn(1, count, 128), audio_before(count, CONTEXT / RATE), 1.0, audio_bounds(count))
    prompt = EncodedPrompt(torch.randn(1, 256, 4096), torch.randn(1, 256, 2048))
    tokens: dict[Stream, torch.Tensor] = {"video": video.clean, "audio": audio.clean}
    if here:
        audiovisual.attach(model)
        positioned = PositionedTracks.of(model, {"video": video, "audio": audio})
        return lambda: velocities(model, positioned, tokens, 0.7, [Prediction(prompt)], ())
    return lambda: model(
        hidden_states=tokens["video"],
        audio_hidden_states=tokens["audio"],
        encoder_hidden_states=prompt.video,
        audio_encoder_hidden_states=prompt.audio,
        timestep=video.mask[..., 0] * 700,
        audio_timestep=audio.mask[..., 0] * 700,
        sigma=torch.full((1,), 700.0),
        audio_sigma=torch.full((1,), 700.0),
        video_coords=video.bounds,
        audio_coords=audio.bounds,
        return_dict=False,
    )


def ltxv(*, here: bool) -> Evaluation:
    """Returns an evaluation of LTX-Video in this package (`here`) or in diffusers."""
    model = random_model(LTXVideoTransformer3DModel, attention_head_dim=128, cross_attention_dim=4096)
    coords = Grid(8, 32, RATE).coords(*SHAPE[2:])
    tokens, noise_levels = torch.randn(1, coords.shape[-1], 128), torch.full((1, coords.shape[-1]), 0.7)
    noise_levels[:, : tokens.shape[1] // 5] = 0
    prompt = t5.EncodedPrompt(torch.randn(1, 256, 4096), torch.ones(1, 256))
    if here:
        video_transformer.attach(model)
        levels = video_transformer.TokenLevels.of(noise_levels)
        return lambda: velocity(model, tokens, levels, coords, prompt)
    return lambda: model(
        hidden_states=tokens,
        encoder_hidden_states=prompt.embeddings,
        timestep=noise_levels * 1000,
        encoder_attention_mask=prompt.mask,
        video_coords=coords,
        return_dict=False,
    )


FAMILIES: dict[str, Callable[..., Evaluation]] = {"ltx2": ltx2, "ltxv": ltxv}
"""The functions that make the evaluations, by family."""


def measure(family: str, implementation: str) -> float:
    """Returns the MiB by which the peak rises during one evaluation by `longtake` or `diffusers`."""
    evaluate, before = FAMILIES[family](here=implementation == "longtake"), peak_mib()
    with torch.inference_mode():
        evaluate()
    return peak_mib() - before


def main() -> None:
    if len(sys.argv) > 1:
        print(measure(*sys.argv[1:]))
        return
    for family in FAMILIES:
        rises = []
        for implementation in ("longtake", "diffusers"):
            command = [sys.executable, "-m", "bench.modulation", family, implementation]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rises.append(float(done.stdout))
            print(f"{family} {implementation:10s} {rises[-1]:8.0f} MiB during one evaluation")
        print(f"{family} longtake / diffusers = {rises[0] / rises[1]:.3f}")


if __name__ == "__main__":
    main()
