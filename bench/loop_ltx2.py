"""Compares the LTX-2 sampling loop with the model evaluations in it alone, on random weights. The loop should take at
most 3 % more time.

    python -m bench.loop_ltx2

There are video and audio, a context of 4 latents and the endpoint's default guidance: four predictions a step. The
evaluations use this package's forward pass; diffusers' own is timed, too.
"""

from fractions import Fraction
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel

from bench.timing import in_turn, ratio, show
from longtake.families.ltx2.guidance import Guide
from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.sampler import PassSetup, Sampler, sample
from longtake.families.ltx2.tracks import PlacedLatents, Track, audio_track, video_track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Stream, attach, velocities
from longtake.models.replicas import Replicas
from longtake.sampling.noise import seeded
from longtake.sampling.positions import Grid, audio_before, audio_bounds, audio_latents
from longtake.sampling.schedules import sigmas

SHAPE = (1, 64, 16, 4, 4)
"""The shape of the latents of a 121-frame clip at 128x128 pixels: 256 tokens."""

LAYOUT: dict[str, Any] = {
    "gated_attn": True,
    "cross_attn_mod": True,
    "audio_gated_attn": True,
    "audio_cross_attn_mod": True,
    "rope_type": "split",
    "use_prompt_embeddings": False,
    "perturbed_attn": True,
}
"""The options of diffusers' transformer with which it has the layout of LTX-2.3."""

STEPS = 2
GUIDANCE = {"video": GuidanceScales(3, 1, 3, 0.85), "audio": GuidanceScales(7, 0, 3, 0.7)}


def transformer(num_layers: int = 8) -> LTX2VideoTransformer3DModel:
    """Returns a model of the 2.3 layout with random parameters, 100 M in 8 layers."""
    torch.manual_seed(0)
    return LTX2VideoTransformer3DModel(
        in_channels=64,
        out_channels=64,
        num_attention_heads=10,
        attention_head_dim=64,
        cross_attention_dim=640,
        audio_num_attention_heads=10,
        audio_attention_head_dim=32,
        audio_cross_attention_dim=320,
        num_layers=num_layers,
        **LAYOUT,
    ).eval()


def window() -> dict[Stream, Track]:
    """Returns the tracks of a window of 121 frames at 24 per second, whose first 25 are context, and their sound."""
    rate = Fraction(24)
    count = audio_latents(121, rate)
    context = audio_before(count, 25 / rate)
    return {
        "video": video_track(Grid(8, 32, rate), SHAPE, [PlacedLatents(torch.randn(1, 64, 4, 4, 4), 0, 1.0)]),
        "audio": audio_track(torch.randn(1, count, 128), context, 1.0, audio_bounds(count)),
    }


def main() -> None:
    model, plain, tracks = transformer(), transformer(), window()
    attach(model)
    prompts = [EncodedPrompt(torch.randn(1, 64, 640), torch.randn(1, 64, 320)) for _ in range(2)]
    guide = Guide(
        Replicas(model), prompts[0], prompts[1], {"video": GUIDANCE["video"], "audio": GUIDANCE["audio"]}, (4,)
    )
    positioned, setup = PositionedTracks.of(model, tracks), PassSetup(guide, Sampler(sigmas("beta", STEPS)))
    tokens = {stream: track.clean for stream, track in tracks.items()}
    predictions = list(guide.predictions(list(tracks)).values())

    def loop() -> None:
        sample(setup, tracks, seeded(0))

    def bare() -> None:
        for _ in range(STEPS):
            velocities(model, positioned, tokens, 0.5, predictions, guide.blocks)

    def diffusers() -> None:
        for _ in range(STEPS * len(predictions)):
            sigma = torch.full((1,), 500.0)
            plain(
                hidden_states=tokens["video"],
                audio_hidden_states=tokens["audio"],
                encoder_hidden_states=prompts[0].video,
                audio_encoder_hidden_states=prompts[0].audio,
                timestep=tracks["video"].mask[..., 0] * 500,
                audio_timestep=tracks["audio"].mask[..., 0] * 500,
                sigma=sigma,
                audio_sigma=sigma,
                video_coords=tracks["video"].bounds,
                audio_coords=tracks["audio"].bounds,
                return_dict=False,
            )

    with torch.inference_mode():
        timings = in_turn(7, loop=loop, bare=bare, diffusers=diffusers)
    show(f"{STEPS} steps of {len(predictions)} predictions", timings)
    print(f"  loop / bare = {ratio(timings, 'loop', 'bare'):.3f} (aim: at most 1.03)")
    print(f"  bare / diffusers' forward pass, as often = {ratio(timings, 'bare', 'diffusers'):.3f}")


if __name__ == "__main__":
    main()
