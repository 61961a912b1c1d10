"""In bfloat16, the forward passes of both families are as near to their results in float32 as diffusers' own are."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from diffusers import LTX2VideoTransformer3DModel, LTXVideoTransformer3DModel
from torch import Tensor

from bench.oracle.cases import MOST
from longtake.families.ltx2.tracks import Track
from longtake.models import audiovisual, video_transformer
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, velocities
from longtake.models.video_transformer import TokenLevels
from tests.models import small
from tests.models.small_ltx2_configs import TRANSFORMER as SMALL_LTX2

WIDE = {"num_attention_heads": 4, "attention_head_dim": 32, "cross_attention_dim": 128, "num_layers": 4}
"""Wide enough that an error is the mean of many rounding errors."""

NUM_TOKENS, NUM_AUDIO, NUM_TEXT = 96, 24, 8

Inputs = Mapping[str, Tensor]
Evaluation = Callable[[Any, Inputs, torch.dtype], Tensor]


def _inputs(seed: int, **shapes: tuple[int, ...]) -> Inputs:
    """Random inputs that have the same values in float32 and in bfloat16. A third of the tokens has no noise."""
    random = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=random).bfloat16().float() for name, shape in shapes.items()}
    starts = torch.rand(1, 3, NUM_TOKENS, 1, generator=random) * torch.tensor([5.0, 500.0, 500.0])[:, None, None]
    mask = torch.ones(NUM_TOKENS)
    mask[: NUM_TOKENS // 3] = 0
    return {**made, "bounds": torch.cat([starts, starts + 0.3], -1), "mask": mask}


def _video(seed: int) -> Inputs:
    return _inputs(seed, tokens=(1, NUM_TOKENS, 6), text=(1, NUM_TEXT, 12))


def _video_here(model: Any, of: Inputs, dtype: torch.dtype) -> Tensor:
    levels = TokenLevels.of(0.7 * of["mask"][None])
    text, mask = of["text"].to(dtype), torch.ones(1, NUM_TEXT, dtype=dtype)
    out: Tensor = model(of["tokens"].to(dtype), levels, of["bounds"][..., 0], text, mask)
    return out


def _video_there(model: Any, of: Inputs, dtype: torch.dtype) -> Tensor:
    out: Tensor = model(
        of["tokens"].to(dtype),
        of["text"].to(dtype),
        700 * of["mask"][None],
        torch.ones(1, NUM_TEXT, dtype=dtype),
        video_coords=of["bounds"][..., 0],
        return_dict=False,
    )[0]
    return out


def _sound(seed: int) -> Inputs:
    shapes = {"tokens": (1, NUM_TOKENS, 4), "audio": (1, NUM_AUDIO, 8)}
    return _inputs(seed, **shapes, text=(1, NUM_TEXT, 128), audio_text=(1, NUM_TEXT, 16))


def _sound_here(model: Any, of: Inputs, dtype: torch.dtype) -> Tensor:
    prompt = EncodedPrompt(of["text"].to(dtype), of["audio_text"].to(dtype))
    free = torch.ones(1, NUM_AUDIO, 1)
    tracks = {
        "video": Track(of["tokens"], of["mask"][None, :, None], of["bounds"]),
        "audio": Track(of["audio"], free, of["bounds"][:, :1, :NUM_AUDIO]),
    }
    tokens = {"video": of["tokens"].to(dtype), "audio": of["audio"].to(dtype)}
    positioned = PositionedTracks.of(model, tracks)  # type: ignore[arg-type]
    out = velocities(model, positioned, tokens, 0.7, [Prediction(prompt)], ())  # type: ignore[arg-type]
    return torch.cat([one.flatten() for one in out.values()])


def _sound_there(model: Any, of: Inputs, dtype: torch.dtype) -> Tensor:
    video, audio = model(
        hidden_states=of["tokens"].to(dtype),
        audio_hidden_states=of["audio"].to(dtype),
        encoder_hidden_states=of["text"].to(dtype),
        audio_encoder_hidden_states=of["audio_text"].to(dtype),
        timestep=700 * of["mask"][None],
        audio_timestep=torch.full((1, NUM_AUDIO), 700.0),
        sigma=torch.full((1,), 700.0),
        audio_sigma=torch.full((1,), 700.0),
        video_coords=of["bounds"],
        audio_coords=of["bounds"][:, :1, :NUM_AUDIO],
        return_dict=False,
    )
    return torch.cat([video.flatten(), audio.flatten()])


def _error(make: Callable[[], Any], evaluate: Evaluation, inputs: Callable[[int], Inputs]) -> float:
    """The mean over some inputs of |in bfloat16 - in float32| / |in float32|; the weights have the same values."""
    errors = []
    exact, rounded = make().bfloat16().float(), make().bfloat16()
    with torch.inference_mode():
        for seed in range(8):
            of = inputs(seed)
            wanted = evaluate(exact, of, torch.float32)
            errors.append(float((evaluate(rounded, of, torch.bfloat16).float() - wanted).norm() / wanted.norm()))
    return sum(errors) / len(errors)


@pytest.mark.parametrize(
    ("cls", "config", "inputs", "attach", "here", "there"),
    [
        (LTXVideoTransformer3DModel, small.TRANSFORMER, _video, video_transformer.attach, _video_here, _video_there),
        (LTX2VideoTransformer3DModel, SMALL_LTX2, _sound, audiovisual.attach, _sound_here, _sound_there),
    ],
    ids=["ltxv", "ltx2"],
)
def test_the_error_in_bfloat16_is_that_of_diffusers(
    cls: Any,
    config: Mapping[str, Any],
    inputs: Callable[[int], Inputs],
    attach: Any,
    here: Evaluation,
    there: Evaluation,
) -> None:
    def theirs() -> Any:
        return small.seeded(cls, {**config, **WIDE})

    def ours() -> Any:
        model = theirs()
        attach(model)
        return model

    usual = _error(theirs, there, inputs)
    assert 0 < _error(ours, here, inputs) <= MOST * usual < 0.1
