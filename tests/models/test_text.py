"""Text encoders of all families: recent prompts are cached, and weights leave a device that is short of memory."""

from typing import Any

import pytest
import torch

from longtake.models import memory
from longtake.models.text import MAX_CHARACTERS, TextEncoder

CPU = torch.device("cpu")


class Weights(torch.nn.Module):
    """A module that records the devices it is moved to."""

    def __init__(self) -> None:
        super().__init__()
        self.moves: list[str] = []

    def to(self, device: Any) -> "Weights":  # type: ignore[override]
        self.moves.append(str(device))
        return self


class Recorder(TextEncoder[torch.Tensor]):
    """A text encoder that records the prompts it encodes; the encoding is the prompt's length."""

    def __init__(self, **options: Any) -> None:
        self.weights = Weights()
        self.encoded: list[str] = []
        defaults: dict[str, Any] = {"num_tokens": 8, "device": CPU, "dtype": torch.float32, "cache_entries": 2}
        super().__init__([self.weights], None, **defaults | options)

    def _encode(self, prompt: str) -> torch.Tensor:
        self.encoded.append(prompt)
        return torch.tensor(float(len(prompt)))


def test_recent_prompts_are_not_encoded_again() -> None:
    text = Recorder(cache_entries=2)
    for prompt in ("a", "a", "red", "a", "blue", " a\n"):
        assert text.encode(prompt) == len(prompt.strip())
    assert text.encoded == ["a", "red", "blue"]
    text.encode("red")
    assert text.encoded == ["a", "red", "blue", "red"], "the prompt that was not used for longest was dropped"


def test_only_the_beginning_of_a_very_long_prompt_is_encoded() -> None:
    text = Recorder()
    assert text.encode("  " + "red ball " * 10_000) == MAX_CHARACTERS
    assert len(text.encoded[0]) == MAX_CHARACTERS


def test_encodings_are_computed_without_gradients() -> None:
    class Differentiable(Recorder):
        def _encode(self, prompt: str) -> torch.Tensor:
            return torch.nn.Parameter(torch.ones(1)) * 2

    assert not Differentiable().encode("a").requires_grad


@pytest.fixture
def _short_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: memory.RESERVE_BYTES - 1)


def test_weights_stay_where_memory_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Recorder()
    for free in (None, memory.RESERVE_BYTES):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        text.release()
    assert text.weights.moves == []


@pytest.mark.usefixtures("_short_of_memory")
def test_weights_leave_a_device_that_is_short_of_memory_until_a_new_prompt_needs_them() -> None:
    text = Recorder(device=torch.device("cpu", 0))
    text.encode("a")
    text.release()
    text.encode("a")
    assert text.weights.moves == ["cpu:0", "cpu"], "a cached prompt needs no weights"
    text.encode("b")
    assert text.weights.moves == ["cpu:0", "cpu", "cpu:0"]


@pytest.mark.usefixtures("_short_of_memory")
def test_offloaded_weights_are_left_to_their_hooks() -> None:
    text = Recorder(offloaded=True)
    text.encode("a")
    text.release()
    assert text.weights.moves == []
