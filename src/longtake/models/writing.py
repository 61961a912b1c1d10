"""Writes text with a language model of transformers, token by token.

On a CUDA GPU, the work for one token is recorded once as a CUDA graph and then repeated. So the GPU does not wait for
the host, which needs longer to start the thousands of small kernels of a token than the GPU needs to compute them.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from longtake.errors import is_out_of_memory

log = logging.getLogger(__name__)

MEMORY_STEP = 64
"""A `FixedMemory`, which stores the keys and values of tokens for attention, has room for a multiple of this number of
tokens. Attention is faster with such sizes."""

UNRECORDED = 2
"""The number of tokens that are computed before the work for one token is recorded as a CUDA graph, which is then
replayed for each further token. Libraries prepare themselves when they are used for the first time, and a graph cannot
record that."""


@dataclass(frozen=True)
class Choice:
    """How each token is drawn.

    temperature: the logits are divided by it.
    top_k: the number of likeliest tokens that can be drawn.
    top_p: of these, only the smallest number of likeliest tokens whose probabilities sum to at least `top_p` can be
        drawn (nucleus sampling).
    """

    temperature: float
    top_k: int
    top_p: float

    def draw(self, logits: Tensor) -> Tensor:
        """Returns a token [1] for logits [1, vocabulary], drawn with torch's random state."""
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        scores = logits.float()
        unused: Any = None  # these three do not look at the tokens before
        for change in (
            TemperatureLogitsWarper(self.temperature),
            TopKLogitsWarper(self.top_k),
            TopPLogitsWarper(self.top_p),
        ):
            scores = change(unused, scores)
        return torch.multinomial(scores.softmax(-1), 1)[0]


class Memory(Protocol):
    """The attention keys and values (KV cache) of all tokens that a language model has read or written up to now."""

    def logits(self, token: Tensor) -> Tensor:
        """Appends a token [1]. Returns the logits [1, vocabulary] of the token after it."""


def write(
    model: Any,
    prompt: Mapping[str, Tensor],
    choice: Choice,
    most: int,
    ends: Collection[int],
    on_token: Callable[[int], None],
    *,
    is_fixed: bool,
) -> list[int]:
    """Returns the tokens that a language model writes after a prompt, without the token that ends the text.

    model: a language model of transformers.
    prompt: the arguments of the model for the prompt, with its tokens as `input_ids` [1, n].
    choice: how each token is drawn from the model's predictions.
    most: the largest number of tokens that are written.
    ends: the tokens that end a text.
    on_token: called with the number of tokens up to now, after each one. It can end the writing by an exception.
    is_fixed: False stores keys and values in memory that grows. True stores them in a `FixedMemory`, which is faster on
        a CUDA GPU; this is not possible if the model is streamed, because its weights then move between two tokens.
    """
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config.get_text_config())
    logits = model(**prompt, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
    memory: Memory = GrowingMemory(model, cache)
    if is_fixed:
        memory = FixedMemory(model, cache, prompt["input_ids"].shape[1], most)
    written: list[int] = []
    while True:
        token = choice.draw(logits)
        number = int(token)  # the host waits for it, so that no work is left if the writing is ended here
        on_token(len(written) + 1)
        if number in ends:
            return written
        written.append(number)
        if len(written) == most:
            return written
        logits = memory.logits(token)


class GrowingMemory:
    """The attention keys and values of all tokens that a language model has read or written, in tensors that grow with
    each token.

    cache: the keys and values of the prompt's tokens, as a cache of the library transformers.
    """

    def __init__(self, model: Any, cache: Any) -> None:
        self._model = model
        self._cache = cache

    def logits(self, token: Tensor) -> Tensor:
        output = self._model(input_ids=token[None], past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        logits: Tensor = output.logits[:, -1]
        return logits


class FixedMemory:
    """The keys and values of all tokens up to now, in tensors with room for all tokens of the text.

    All tensors stay where they are, and their sizes do not change. So on a CUDA GPU the work for a token can be
    recorded once and repeated for each further token.

    cache: the keys and values of the prompt.
    length: the number of the prompt's tokens.
    most: the largest number of tokens that follow it.
    """

    def __init__(self, model: Any, cache: Any, length: int, most: int) -> None:
        size = MEMORY_STEP * ceil((length + most) / MEMORY_STEP)
        self._model = model
        self._keys = [_extended(layer.keys, length, size) for layer in cache.layers]
        self._values = [_extended(layer.values, length, size) for layer in cache.layers]
        device = self._keys[0].device
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._position = torch.full((1,), length, device=device)
        self._places = torch.arange(size, device=device)
        self._logits: Tensor | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._can_record = device.type == "cuda"
        self._num_computed = 0

    def logits(self, token: Tensor) -> Tensor:
        self._token.copy_(token[None])
        if self._graph is None and self._can_record and self._num_computed >= UNRECORDED:
            self._record()
        if self._graph is None:
            self._compute()
            self._num_computed += 1
        else:
            self._graph.replay()
        assert self._logits is not None
        return self._logits

    def _compute(self) -> None:
        """Computes the logits after the present token, and moves on to the next position."""
        window = self._model.config.get_text_config().sliding_window
        known = self._places <= self._position
        allowed = {"full_attention": known, "sliding_attention": known & (self._places > self._position - window)}
        nothing = torch.zeros((), dtype=self._keys[0].dtype, device=known.device)
        lowest = torch.full_like(nothing, torch.finfo(nothing.dtype).min)
        masks = {kind: torch.where(places, nothing, lowest)[None, None, None] for kind, places in allowed.items()}
        output = self._model(
            input_ids=self._token,
            attention_mask=masks,
            position_ids=self._position[None],
            past_key_values=self,
            use_cache=True,
            logits_to_keep=1,
        )
        self._logits = output.logits[:, -1]
        self._position += 1

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Stores the key and the value of the present token. Returns the keys and values of all tokens, and zeros in
        the room for further ones. Each layer calls it."""
        self._keys[layer].index_copy_(2, self._position, keys)
        self._values[layer].index_copy_(2, self._position, values)
        return self._keys[layer], self._values[layer]

    def _record(self) -> None:
        """Records the GPU work of `_compute` as a CUDA graph without carrying it out. The graph can then be replayed
        for each token. If the recording fails, the log says why, and there is no graph."""
        graph, device = torch.cuda.CUDAGraph(), self._token.device
        try:
            # Other threads of this process may use the GPU meanwhile.
            with torch.cuda.graph(graph, stream=_stream(self._model, device), capture_error_mode="thread_local"):
                self._compute()
            self._graph = graph
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._can_record = False
            log.warning("Prompts are written without a CUDA graph, which takes longer: %s", str(error)[:300])


_streams = WeakKeyDictionary[Any, "torch.cuda.Stream"]()
"""The stream on which the work of each language model is recorded. Libraries keep some memory for each stream."""


def _stream(model: Any, device: torch.device) -> "torch.cuda.Stream":
    """Returns the stream on which the work of a language model is recorded.

    By default torch records on one stream for the whole process, also work of another GPU, which then is not recorded.
    """
    if model not in _streams:
        _streams[model] = torch.cuda.Stream(device)
    return _streams[model]


def _extended(kept: Tensor, length: int, size: int) -> Tensor:
    """Returns the keys or values of `length` tokens in a tensor [1, heads, size, channels], with zeros for all others.

    kept: the keys or values of the last n of these tokens, [1, heads, n, channels]. A layer with a sliding window keeps
        no earlier ones, so n can be less than `length`. The places of the earlier tokens are zeros, too.
    """
    extended = kept.new_zeros(*kept.shape[:2], size, kept.shape[3])
    extended[:, :, length - kept.shape[2] : length] = kept
    return extended
