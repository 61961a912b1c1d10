"""Peak memory of one LTX-2 evaluation: modulation per distinct noise level against diffusers' own, per token.

python -m bench.modulation

Random weights of the published width (4096 and 2048 channels, one block, float32), 1140 video tokens, a quarter of the
first scale of the endpoint's defaults at 1280x704, of which a fifth are given. Each way runs in a process of its own;
what it had allocated before the evaluation does not count.
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
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str) -> float:
    """MiB by which the peak rises during one evaluation."""
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
    words = EncodedPrompt(torch.randn(1, 256, 4096), torch.randn(1, 256, 2048))
    tokens = {"video": video.clean, "audio": audio.clean}
    with torch.inference_mode():
        if way == "longtake":
            attach(model)
            positioned = PositionedTracks.of(model, {"video": video, "audio": audio})
            before = peak_mib()
            velocities(model, positioned, {"video": video.clean, "audio": audio.clean}, 0.7, [Prediction(words)], ())
        else:
            before = peak_mib()
            model(
                hidden_states=tokens["video"],
                audio_hidden_states=tokens["audio"],
                encoder_hidden_states=words.video,
                audio_encoder_hidden_states=words.audio,
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
    risen = {}
    for way in ("longtake", "diffusers"):
        done = subprocess.run(
            [sys.executable, "-m", "bench.modulation", way], check=True, capture_output=True, text=True
        )
        risen[way] = float(done.stdout)
        print(f"{way:10s} {risen[way]:8.0f} MiB during one evaluation")
    print(f"longtake / diffusers = {risen['longtake'] / risen['diffusers']:.3f}")


if __name__ == "__main__":
    main()
