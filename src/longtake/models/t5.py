"""The text encoder of LTX-Video: T5."""

from dataclasses import dataclass
from typing import Any

import torch

from longtake.models.text import TextEncoder


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt encoded for LTX-Video.

    embeddings: one vector per token, [1, n, d].
    mask: [1, n], in the dtype of the embeddings: 1 for a token of the prompt, 0 for padding.
    """

    embeddings: torch.Tensor
    mask: torch.Tensor

    def to(self, device: torch.device | str) -> "EncodedPrompt":
        return EncodedPrompt(self.embeddings.to(device), self.mask.to(device))


class T5TextEncoder(TextEncoder[EncodedPrompt]):
    """T5 with its tokenizer. The tokens of a short prompt are padded on the right."""

    def __init__(self, encoder: torch.nn.Module, tokenizer: Any, **options: Any) -> None:
        """Builds the encoder from T5 and its tokenizer, both of transformers.

        options: passed on to the constructor of `TextEncoder` by name, such as device and dtype.
        """
        super().__init__([encoder], tokenizer, **options)
        self.encoder = encoder

    def _encode(self, prompt: str) -> EncodedPrompt:
        ids = self.tokenizer(
            prompt,
            padding="max_length",
            max_length=self.num_tokens,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        self.bring(self.encoder)
        # The publisher's own code hides the padding from the encoder. diffusers' pipelines do not.
        hidden = self.encoder(ids.input_ids.to(self.device), attention_mask=ids.attention_mask.to(self.device))[0]
        return EncodedPrompt(hidden.to(self.dtype), ids.attention_mask.to(self.dtype))
