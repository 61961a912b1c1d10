"""Text encoders of all families: recent prompts are cached, and weights can leave the device."""

from typing import Any

import torch

from longtake.models.text import MAX_CHARACTERS, TextEncoder

CPU = torch.device("cpu")


class Recorder(TextEncoder[torch.Tensor]):
    """A text encoder of two modules that records the prompts it encodes; the encoding is the prompt's length.

    brought: the places of both modules each time it has called `bring`.
    """

    def __init__(self, **options: Any) -> None:
        self.encoded: list[str] = []
        self.brought: list[tuple[bool, ...]] = []
        modules = [torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)]
        defaults: dict[str, Any] = {"num_tokens": 8, "device": CPU, "dtype": torch.float32, "cache_entries": 2}
        self.homes = [module.weight.data_ptr() for module in modules]
        super().__init__(modules, None, **defaults | options)

    @property
    def places(self) -> tuple[bool, ...]:
        """For each module, whether its weights have left their place in host memory."""
        return tuple(
            next(one.parameters()).data_ptr() != home for one, home in zip(self.modules, self.homes, strict=True)
        )

    def _encode(self, prompt: str) -> torch.Tensor:
        self.encoded.append(prompt)
        for module in self.modules:
            self.bring(module)
            self.brought.append(self.places)
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


def test_weights_stay_where_they_are_unless_told_otherwise() -> None:
    text = Recorder()
    text.encode("a")
    text.release()
    assert text.brought == [(False, False)] * 2
    assert text.places == (False, False)


def test_weights_are_on_the_device_only_for_a_new_prompt_and_one_module_at_a_time() -> None:
    """Without a GPU, another place in host memory stands for the device."""
    text = Recorder(place="host")
    text.encode("a")
    text.release()
    text.encode("a")
    assert text.brought == [(True, False), (False, True)], "a cached prompt needs no weights"
    assert text.places == (False, False)
    text.encode("b")
    assert text.brought[2:] == [(True, False), (False, True)]
