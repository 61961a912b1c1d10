"""The base class of all text encoders. It caches encoded prompts, and moves the weights between device and host."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import torch
from cachetools import LRUCache, cachedmethod

from longtake.models import memory

MAX_CHARACTERS = 65_536
"""The number of characters of a prompt that a tokenizer reads at most. An encoded prompt has at most 1024 tokens, and a
token of ordinary text has about four characters, so the tokens that are kept are the same. Without a limit, the
tokenizer would work on a prompt of many megabytes for minutes."""


class Movable(Protocol):
    """The interface of an encoded prompt. Its method `to` returns a copy whose tensors are on a device."""

    def to(self, device: "torch.device | str") -> Any: ...


EncodedT = TypeVar("EncodedT", bound=Movable)


class TextEncoder(ABC, Generic[EncodedT]):
    """A text encoder with its tokenizer. It caches the most recently used encoded prompts in host memory.

    modules: all modules that have weights.
    num_tokens: the number of tokens to which prompts are cut or padded.
    device: the device on which the encoder runs and to which it returns encoded prompts.
    dtype: the dtype of encoded prompts. The weights may have another one.
    cache_entries: the largest number of encoded prompts in the cache.
    offloaded: True if hooks (see `memory.place`) move the weights to the device and back. Then `onload` and `release`
        do nothing.
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
        """Returns the encoded prompt on the encoder's device.

        Blanks at both ends of the prompt are ignored, and so is everything after the first `MAX_CHARACTERS`.
        """
        encoded: EncodedT = self._encode_cached(prompt.strip()[:MAX_CHARACTERS]).to(self.device)
        return encoded

    @cachedmethod(attrgetter("cache"))
    def _encode_cached(self, prompt: str) -> EncodedT:
        self.onload()
        with torch.no_grad():
            encoded: EncodedT = self._encode(prompt).to("cpu")
        return encoded

    @abstractmethod
    def _encode(self, prompt: str) -> EncodedT:
        """Returns the encoded prompt, on any device. Each subclass implements it.

        `encode` calls it without gradients, after it has moved the weights to the device.
        """

    def onload(self) -> None:
        """Moves the weights to the device if they are not there, because `release` may have moved them to the host."""
        if not self.offloaded:
            for module in self.modules:
                module.to(self.device)

    def release(self) -> None:
        """Moves the weights to the host if the device is a CUDA GPU with less than 8 GiB of free memory.

        This frees device memory for sampling. The next prompt that is not in the cache moves the weights back.
        """
        if not self.offloaded and memory.is_short(self.device):
            self.offload()

    def offload(self) -> None:
        """Moves the weights to the host. The next prompt that is not in the cache moves them back."""
        if not self.offloaded:
            for module in self.modules:
                module.to("cpu")
