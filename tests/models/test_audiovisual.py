"""The forward pass of LTX-2: the same whoever shares it, and small where diffusers' own is large. Its numbers are
held to the original implementation's in tests/families/ltx2/test_oracle.py."""

from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, attach, velocities
from tests.models import small_ltx2

STREAMS: tuple[Stream, ...] = ("video", "audio")


@pytest.fixture(scope="module")
def net() -> Any:
    torch.manual_seed(0)
    net = small_ltx2.model("transformer")
    attach(net)
    return net


def tracks(net: Any, frames: int = 3) -> dict[Stream, Track]:
    config = net.config
    count = {"video": frames * 4, "audio": 10}
    channels = {"video": config.in_channels, "audio": config.audio_in_channels}
    axes = {"video": 3, "audio": 1}
    made: dict[Stream, Track] = {}
    for stream in STREAMS:
        n = count[stream]
        mask = torch.ones(1, n, 1)
        mask[:, : n // 3] = 0
        starts = torch.rand(1, axes[stream], n, 1)
        bounds = torch.cat([starts, starts + 0.1], -1)
        made[stream] = Track(torch.randn(1, n, channels[stream]), mask, bounds)
    return made


def words(net: Any, seed: int) -> EncodedPrompt:
    random = torch.Generator().manual_seed(seed)
    config = net.config
    widths = config.cross_attention_dim, config.audio_cross_attention_dim
    return EncodedPrompt(*(torch.randn(1, 5, width, generator=random) for width in widths))


def run(net: Any, of: dict[Stream, Track], predictions: list[Prediction]) -> dict[Stream, Tensor]:
    tokens = {stream: track.clean for stream, track in of.items()}
    return velocities(net, PositionedTracks.of(net, of), tokens, 0.7, predictions, [1])


def test_predictions_made_together_are_those_made_alone(net: Any) -> None:
    of = tracks(net)
    predictions = [
        Prediction(words(net, 1)),
        Prediction(words(net, 2)),
        Prediction(words(net, 1), frozenset({"video"})),
        Prediction(words(net, 1), frozenset({"audio"})),
        Prediction(words(net, 1), isolated=True),
    ]
    together = run(net, of, predictions)
    for row, prediction in enumerate(predictions):
        alone = run(net, of, [prediction])
        for stream in STREAMS:
            assert torch.allclose(together[stream][row : row + 1], alone[stream], atol=1e-5)
    for row in range(1, len(predictions)):
        assert not torch.allclose(together["video"][0], together["video"][row], atol=1e-4)


def test_isolated_modalities_do_not_hear_each_other(net: Any) -> None:
    of, other = tracks(net), tracks(net)
    mixed: dict[Stream, Track] = {"video": of["video"], "audio": other["audio"]}
    silent: dict[Stream, Track] = {"video": of["video"]}
    prediction = Prediction(words(net, 1), isolated=True)
    assert torch.equal(run(net, of, [prediction])["video"], run(net, mixed, [prediction])["video"])
    assert not torch.equal(
        run(net, of, [Prediction(words(net, 1))])["video"], run(net, mixed, [Prediction(words(net, 1))])["video"]
    )
    assert torch.allclose(run(net, of, [prediction])["video"], run(net, silent, [prediction])["video"], atol=1e-6)


def test_modulation_is_made_once_per_noise_level(net: Any) -> None:
    of = tracks(net)
    seen: list[int] = []
    handle = net.time_embed.linear.register_forward_hook(lambda module, given, made: seen.append(made.shape[0]))
    try:
        run(net, of, [Prediction(words(net, 1))])
    finally:
        handle.remove()
    assert seen == [2]


def test_adapters_and_casts_work_on_it(net: Any) -> None:
    """Hooks find the forward pass: it is on the instance before they come."""
    from accelerate.hooks import ModelHook, add_hook_to_module, remove_hook_from_module  # type: ignore[import-untyped]

    class Counting(ModelHook):  # type: ignore[misc]
        calls = 0

        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return args, kwargs

    hook = Counting()
    plain = run(net, of := tracks(net), [Prediction(words(net, 1))])
    add_hook_to_module(net, hook)
    try:
        hooked = run(net, of, [Prediction(words(net, 1))])
    finally:
        remove_hook_from_module(net)
        attach(net)
    assert hook.calls == 1
    assert torch.equal(plain["video"], hooked["video"])
