"""The base class of all text encoders. It caches encoded prompts, and moves the weights between device and host."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import torch
from cachetools import LRUCache, cachedmethod

from longtake.models import memory
from longtake.models.budget import TextPlace
from longtake.models.host_copies import HostCopies

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
    place: where the weights are while nothing is encoded. If it is not "device", the modules must be in host memory
        when the encoder is made. It is "device" if hooks move the weights (see `memory.place`).
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
        place: TextPlace = "device",
    ) -> None:
        self.modules = modules
        self.tokenizer = tokenizer
        self.num_tokens = num_tokens
        self.device = device
        self.dtype = dtype
        self.cache: LRUCache[Any, EncodedT] = LRUCache(cache_entries)
        copied = modules if place != "device" else []
        self._copies = [HostCopies(module, device, pinned=place == "pinned") for module in copied]

    def encode(self, prompt: str) -> EncodedT:
        """Returns the encoded prompt on the encoder's device.

        Blanks at both ends of the prompt are ignored, and so is everything after the first `MAX_CHARACTERS`.
        """
        encoded: EncodedT = self._encode_cached(prompt.strip()[:MAX_CHARACTERS]).to(self.device)
        return encoded

    @cachedmethod(attrgetter("cache"))
    def _encode_cached(self, prompt: str) -> EncodedT:
        with torch.no_grad():
            encoded: EncodedT = self._encode(prompt).to("cpu")
        return encoded

    @abstractmethod
    def _encode(self, prompt: str) -> EncodedT:
        """Returns the encoded prompt, on any device. Each subclass implements it.

        `encode` calls it without gradients. An implementation must call `bring`, which moves a module to the device,
        before it uses that module.
        """

    def bring(self, module: torch.nn.Module) -> None:
        """Moves the weights of a module to the device if they are not there.

        The weights of the encoder's other modules leave the device first, unless they always stay there. So only one
        module at a time takes memory for its run.
        """
        for other, copies in zip(self.modules, self._copies, strict=False):
            if other is not module:
                copies.release()
        for own, copies in zip(self.modules, self._copies, strict=False):
            if own is module:
                copies.onload()
        memory.bring(module)

    def release(self) -> None:
        """Frees device memory for the sampling: removes the encoder's weights from it, unless they always stay there.

        The weights are moved back for the next prompt that is not in the cache.
        """
        for copies in self._copies:
            copies.release()
        for module in self.modules:
            memory.send_away(module)
