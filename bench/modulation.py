"""Compares the peak memory of one LTX-2 evaluation in this package and in diffusers. This package stores modulation per
noise level, diffusers per token.

    python -m bench.modulation

The weights are random and of the published width (4096 and 2048 channels, one block, float32). There are 1140 video
tokens, a quarter of those in the first pass of the endpoint's defaults at 1280x704. A fifth of the tokens are context.
Each implementation runs in a process of its own; memory allocated before the evaluation is not counted.
"""

import resource
import subprocess
import sys
from fractions import Fraction
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel

from longtake.families.ltx2.tracks import PlacedLatents, audio_track, video_track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, attach, velocities
from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_latents

FRAMES, CONTEXT = 145, 25
SHAPE = (1, 128, 19, 6, 10)


def peak_mib() -> float:
    """Returns the peak resident memory of this process in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(implementation: str) -> float:
    """Returns the MiB by which the peak rises during one evaluation by `longtake` or `diffusers`."""
    rate, count = Fraction(24), audio_latents(FRAMES, Fraction(24))
    with torch.device("meta"):
        model: Any = LTX2VideoTransformer3DModel(
            num_layers=1,
            gated_attn=True,
            cross_attn_mod=True,
            audio_gated_attn=True,
            audio_cross_attn_mod=True,
            rope_type="split",
            use_prompt_embeddings=False,
            perturbed_attn=True,
        )
    model = model.to_empty(device="cpu").eval()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    context = torch.randn(1, 128, 4, *SHAPE[3:])
    video = video_track(Grid(8, 32, rate), SHAPE, [PlacedLatents(context, 0, 1.0)])
    audio = audio_track(torch.randn(1, count, 128), audio_before(count, CONTEXT / rate), 1.0, audio_bounds(count))
    prompt = EncodedPrompt(torch.randn(1, 256, 4096), torch.randn(1, 256, 2048))
    tokens = {"video": video.clean, "audio": audio.clean}
    with torch.inference_mode():
        if implementation == "longtake":
            attach(model)
            positioned = PositionedTracks.of(model, {"video": video, "audio": audio})
            before = peak_mib()
            velocities(model, positioned, {"video": video.clean, "audio": audio.clean}, 0.7, [Prediction(prompt)], ())
        else:
            before = peak_mib()
            model(
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
    return peak_mib() - before


def main() -> None:
    if len(sys.argv) > 1:
        print(measure(sys.argv[1]))
        return
    rises = {}
    for implementation in ("longtake", "diffusers"):
        done = subprocess.run(
            [sys.executable, "-m", "bench.modulation", implementation], check=True, capture_output=True, text=True
        )
        rises[implementation] = float(done.stdout)
        print(f"{implementation:10s} {rises[implementation]:8.0f} MiB during one evaluation")
    print(f"longtake / diffusers = {rises['longtake'] / rises['diffusers']:.3f}")


if __name__ == "__main__":
    main()
