"""Prompts become token embeddings: T5, a fixed length, and a bounded memory of prompts seen before."""

from collections import OrderedDict
from typing import Any

import torch

Encoded = tuple[torch.Tensor, torch.Tensor]
"""Embeddings [1, tokens, channels] and their mask [1, tokens] (1 = a token, 0 = padding)."""


class PromptCache:
    """The encodings of the prompts used last, at most `entries` of them, on the host."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._kept: OrderedDict[tuple[str, str], Encoded] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Encoded | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: tuple[str, str], encoded: Encoded) -> None:
        self._kept[key] = encoded
        self._kept.move_to_end(key)
        while len(self._kept) > self._entries:
            self._kept.popitem(last=False)

    def __len__(self) -> int:
        return len(self._kept)


class TextEncoder:
    """The text encoder of model `model`, with its tokenizer; prompts are cut or padded to `tokens` tokens.

    `device` is where it computes and where the encodings end up. `stays`: its weights lie there and are moved by
    nobody else, so that `release` may.
    """

    def __init__(
        self,
        model: str,
        encoder: torch.nn.Module,
        tokenizer: Any,
        *,
        tokens: int,
        device: torch.device,
        dtype: torch.dtype,
        cache: PromptCache,
        stays: bool = True,
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.device = device
        self.dtype = dtype
        self.cache = cache
        self.stays = stays

    @torch.no_grad()
    def encode(self, prompt: str) -> Encoded:
        """The embeddings and mask of a prompt, both on the device and in the model's dtype."""
        prompt = prompt.strip()
        key = (self.model, prompt)
        kept = self.cache.get(key)
        if kept is None:
            kept = self._run(prompt)
            self.cache.put(key, kept)
        return kept[0].to(self.device), kept[1].to(self.device)

    def _run(self, prompt: str) -> Encoded:
        ids = self.tokenizer(
            prompt,
            padding="max_length",
            max_length=self.tokens,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        if self.stays:
            self.encoder.to(self.device)
        # As the reference does, and diffusers' pipelines do not, the mask also hides the padding from the encoder.
        mask = ids.attention_mask.to(self.device)
        hidden = self.encoder(ids.input_ids.to(self.device), attention_mask=mask)[0]
        return hidden.to("cpu", self.dtype), ids.attention_mask.to("cpu", self.dtype)

    def release(self) -> None:
        """Moves the encoder's weights to the host until the next prompt that is not remembered needs them."""
        if self.stays:
            self.encoder.to("cpu")
