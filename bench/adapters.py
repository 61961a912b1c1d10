"""Times what adapters cost on a CPU, in both ways of applying them: in a sampling step, and when their scales change.

    python -m bench.adapters

The model is that of `bench.loop_ltx2` with two layers, so 30 M random weights, and one adapter of rank 64 on all of its
linear layers. All times are given as ratios to a step without adapters, which makes four predictions.
"""

from functools import partial

import torch

from bench.loop_ltx2 import GUIDANCE, transformer, window
from bench.timing import in_turn, ratio, show
from longtake.families.ltx2.guidance import Guide
from longtake.models.applying import applied
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, attach, velocities
from longtake.models.lora_fit import linear_layers
from longtake.models.loras import Adapter, LoadedAdapter, Pair
from longtake.models.merging import Originals
from longtake.models.replicas import Replicas

RANK = 64
SCALES = (0.2, 0.5, 0.0)
"""The adapter's scale in each of two passes, and in a third one without it."""


def adapter(model: torch.nn.Module) -> LoadedAdapter:
    """Returns an adapter with random matrices for all linear layers of the model, and its scales."""
    pairs = {
        name: Pair(torch.randn(RANK, layer.in_features), torch.randn(layer.out_features, RANK), 1e-3)
        for name, layer in linear_layers(model).items()
    }
    return Adapter("random", pairs), SCALES


def main() -> None:
    model, tracks = transformer(num_layers=2).requires_grad_(False), window()
    attach(model)
    prompts = [EncodedPrompt(torch.randn(1, 64, 640), torch.randn(1, 64, 320)) for _ in range(2)]
    guide = Guide(
        Replicas(model), prompts[0], prompts[1], {"video": GUIDANCE["video"], "audio": GUIDANCE["audio"]}, (1,)
    )
    positioned = PositionedTracks.of(model, tracks)
    tokens = {stream: track.clean for stream, track in tracks.items()}
    predictions = list(guide.predictions(list(tracks)).values())

    def step() -> None:
        velocities(model, positioned, tokens, 0.5, predictions, guide.blocks)

    with torch.inference_mode():
        for title, originals in (("merged", Originals()), ("beside", Originals("none"))):
            with applied(model, [adapter(model)], originals=originals) as set_pass:
                timings = in_turn(
                    5,
                    first_pass=partial(set_pass, 0),
                    adapted_step=step,
                    second_pass=partial(set_pass, 1),
                    off=partial(set_pass, 2),
                    step=step,
                )
            show(title, timings)
            for name in ("first_pass", "adapted_step", "second_pass", "off"):
                print(f"  {name} / step = {ratio(timings, name, 'step'):.3f}")
            print()


if __name__ == "__main__":
    main()
