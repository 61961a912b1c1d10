"""What the text encoders of all families share: a cache of encoded prompts, and memory on the device."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import torch
from cachetools import LRUCache, cachedmethod

from longtake.models import memory


class Movable(Protocol):
    """An encoded prompt: tensors that move to a device together."""

    def to(self, device: "torch.device | str") -> Any: ...


EncodedT = TypeVar("EncodedT", bound=Movable)


class TextEncoder(ABC, Generic[EncodedT]):
    """A text encoder with its tokenizer. It caches the encodings of recent prompts in host memory.

    modules: all modules with weights.
    num_tokens: prompts are cut or padded to this many tokens.
    device, dtype: where the encoder runs, and the device and dtype of encoded prompts.
    cache_entries: the number of prompts whose encodings are cached.
    offloaded: True if hooks move the weights (`memory.place`). The encoder then moves none itself.
    """

    def __init__(
        self,
        modules: Sequence[torch.nn.Module],
        tokenizer: Any,
        *,
        num_tokens: int,
        device: torch.device,
        dtype: torch.dtype,
        cache_entries: int,
        offloaded: bool = False,
    ) -> None:
        self.modules = modules
        self.tokenizer = tokenizer
        self.num_tokens = num_tokens
        self.device = device
        self.dtype = dtype
        self.cache: LRUCache[Any, EncodedT] = LRUCache(cache_entries)
        self.offloaded = offloaded

    def encode(self, prompt: str) -> EncodedT:
        """Returns the encoded prompt on the encoder's device. Spaces around the prompt do not count."""
        encoded: EncodedT = self._encode_cached(prompt.strip()).to(self.device)
        return encoded

    @cachedmethod(attrgetter("cache"))
    def _encode_cached(self, prompt: str) -> EncodedT:
        self.onload()
        with torch.no_grad():
            encoded: EncodedT = self._encode(prompt).to("cpu")
        return encoded

    @abstractmethod
    def _encode(self, prompt: str) -> EncodedT:
        """Returns the encoded prompt on any device. The weights are on the encoder's device."""

    def onload(self) -> None:
        """Moves the weights to the device, in case `release` moved them away."""
        if not self.offloaded:
            for module in self.modules:
                module.to(self.device)

    def release(self) -> None:
        """Moves the weights to the host if the device has less free memory than `memory.RESERVE_BYTES`.

        Sampling can then use their memory. The next prompt that is not cached moves them back.
        """
        if not self.offloaded and memory.is_short(self.device):
            for module in self.modules:
                module.to("cpu")
