"""The text encoder of LTX-2: Gemma-3, and two connectors that turn all its hidden states into text tokens.

The same Gemma can expand a prompt. If Gemma has a vision tower, it also sees one frame of the source video: the frame
next to the place where the new frames are added.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from longtake.models.audiovisual import EncodedPrompt
from longtake.models.frequencies import keep_float64_on_host
from longtake.models.streaming import is_streamed
from longtake.models.text import MAX_CHARACTERS, TextEncoder
from longtake.models.writing import Choice, write
from longtake.video import OnProgress, Progress, ignore_progress

MAX_NEW_TOKENS = 400
"""The largest number of tokens of an expanded prompt. Gemma's system prompt asks for at most 180 words, which are fewer
tokens."""

TEMPERATURE = 0.7
"""The sampling temperature; lower than the 1.0 that Gemma-3's publisher recommends, to stay close to the prompt."""

TOP_K = 64
"""Each token is drawn from the 64 most likely ones, as Gemma-3's publisher recommends."""

TOP_P = 0.95
"""Each token is drawn from the likeliest ones, as many as reach this probability in sum, as Gemma-3's publisher
recommends."""

_TURN, _END = "<start_of_turn>", "<end_of_turn>"

_TASK = (
    "You write the shooting notes for a model that makes a video longer, picture and sound together. Turn the user's "
    "words into one paragraph in the present tense, at most 180 words. Say what happens, in order and concretely; then "
    "who and what is seen and how it looks; then the camera, the light and the colours; then what is heard: voices "
    "with their exact words in quotation marks, sounds, music or silence. Keep every fact that the user gives, add "
    "only what follows from it, leave out titles, lists and remarks, and answer with the paragraph alone."
)
_WITHOUT_WORDS = (
    "You write the shooting notes for a model that makes a video longer, picture and sound together. The user leaves "
    "to you what happens next: describe in one paragraph in the present tense, at most 180 words, how the shown moment "
    "goes on plainly, with the same people, things, place and camera, then what is heard. Leave out titles, lists and "
    "remarks, and answer with the paragraph alone."
)
_SEEING = (
    " The picture is the frame at which the new part is joined to the video: the people, things, place, light and "
    "framing that it shows are those of the new part. Tell what moves and changes; do not describe the frame at length."
)


class GemmaTextEncoder(TextEncoder[EncodedPrompt]):
    """The text encoder of LTX-2: Gemma-3 with its tokenizer, and the connectors, which turn Gemma's hidden states into
    text tokens for video and for audio.

    The tokens of a short prompt are padded on the left.
    """

    def __init__(self, encoder: Any, connectors: Any, tokenizer: Any, **options: Any) -> None:
        """Builds the encoder.

        encoder: Gemma-3, as one of three classes of transformers. All three can encode prompts.
            - `Gemma3TextModel` can only encode prompts.
            - `Gemma3ForCausalLM` can also expand prompts, if its tokenizer has the tokens of a chat (see `can_write`).
            - `Gemma3ForConditionalGeneration` can expand prompts like that, and can look at a frame (see `can_see`).
        connectors: diffusers' module that turns hidden states into text tokens for video and for audio.
        tokenizer: Gemma's tokenizer. If it has no padding token, it gets one.
        options: passed on to the constructor of `TextEncoder` by name, such as device and dtype.
        """
        keep_float64_on_host(connectors)
        super().__init__([encoder, connectors], tokenizer, **options)
        self.encoder = encoder
        self.connectors = connectors
        self.max_new_tokens = MAX_NEW_TOKENS
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    @property
    def can_write(self) -> bool:
        """True if `expand` may be called.

        The encoder then has a language model head, and its tokenizer has the tokens that begin and end a chat turn.
        """
        vocabulary = self.tokenizer.get_vocab()
        return hasattr(self.encoder, "lm_head") and _TURN in vocabulary and _END in vocabulary

    @property
    def can_see(self) -> bool:
        """True if the encoder has a vision tower, so that it can look at a frame while it writes or rewrites a
        prompt."""
        return getattr(self.encoder.config, "vision_config", None) is not None

    def _encode(self, prompt: str) -> EncodedPrompt:
        ids = self.tokenizer(
            prompt,
            padding="max_length",
            padding_side="left",
            max_length=self.num_tokens,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        mask = ids.attention_mask.to(self.device)
        self.bring(self.encoder)
        # The connectors read hidden states only, so the head need not compute the logits of more than one token.
        head = {"logits_to_keep": 1} if hasattr(self.encoder, "lm_head") else {}
        output = self.encoder(
            input_ids=ids.input_ids.to(self.device), attention_mask=mask, output_hidden_states=True, **head
        )
        hidden = torch.stack(output.hidden_states, dim=-1).to(self.connectors.dtype)
        self.bring(self.connectors)
        video, audio, _ = self.connectors(hidden, mask)
        return EncodedPrompt(video.to(self.dtype), audio.to(self.dtype))

    @torch.no_grad()
    def expand(
        self, prompt: str, frame: NDArray[np.uint8] | None, seed: int, on_progress: OnProgress = ignore_progress
    ) -> str:
        """Returns a longer prompt that Gemma writes from `prompt`, or `prompt` itself if Gemma writes nothing.

        Call it only if `can_write` is True. If `prompt` is empty, Gemma makes up what happens next in the video. Gemma
        reads at most the first `MAX_CHARACTERS` of `prompt`.

        frame: the frame of the source video that is next to the new frames, [height, width, 3]. Gemma sees no frame if
            this is None or if `can_see` is False.
        seed: the same seed gives the same text.
        on_progress: called after each token. It can end the writing by raising an exception.
        """
        self.bring(self.encoder)
        sees = frame is not None and self.can_see
        image = self._image_tokens() if sees else ""
        words = self._without_special_tokens(prompt.strip()[:MAX_CHARACTERS])
        task = f"{_TASK if words else _WITHOUT_WORDS}{_SEEING if sees else ''}"
        chat = f"{_TURN}user\n{task}\n\n{image}{words}{_END}\n{_TURN}model\n"
        ids = self.tokenizer(chat, add_special_tokens=True, return_tensors="pt").input_ids.to(self.device)
        inputs: dict[str, torch.Tensor] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if sees and frame is not None:
            inputs["pixel_values"] = self._pixels(frame)
            inputs["token_type_ids"] = (ids == self.encoder.config.image_token_id).long()
        ends = [self.tokenizer.convert_tokens_to_ids(_END), self.tokenizer.eos_token_id]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            written = write(
                self.encoder,
                inputs,
                Choice(TEMPERATURE, TOP_K, TOP_P),
                self.max_new_tokens,
                [end for end in ends if end is not None],
                lambda number: on_progress(Progress("prompt", number, self.max_new_tokens)),
                is_fixed=self.device.type == "cuda" and not is_streamed(self.encoder),
            )
        text: str = self.tokenizer.decode(written, skip_special_tokens=True)
        return self._without_special_tokens(text) or prompt

    def _image_tokens(self) -> str:
        """Returns the text that marks the place of a picture in a prompt.

        It consists of special tokens: one that begins the picture, then one for each of the picture's embeddings, then
        one that ends the picture. Gemma replaces the tokens in the middle by the embeddings.
        """
        config = self.encoder.config
        begin, one, end = self.tokenizer.convert_ids_to_tokens(
            [config.boi_token_index, config.image_token_id, config.eoi_token_index]
        )
        return f"\n\n{begin}{one * config.mm_tokens_per_image}{end}\n\n"

    def _without_special_tokens(self, text: str) -> str:
        """Returns `text` with each special token replaced by a blank, and without blanks at its start and end.

        In a user's prompt, special tokens could stand for a picture or end the user's turn of the chat.
        """
        config = self.encoder.config
        indices = [getattr(config, name, None) for name in ("boi_token_index", "image_token_id", "eoi_token_index")]
        tokens = self.tokenizer.convert_ids_to_tokens([index for index in indices if index is not None])
        for token in (*tokens, *self.tokenizer.all_special_tokens, _TURN, _END):
            text = text.replace(token, " ")
        return text.strip()

    def _pixels(self, frame: NDArray[np.uint8]) -> torch.Tensor:
        """Returns a frame, stretched to a square, as input of Gemma-3's vision tower: [1, 3, side, side] in -1..1."""
        side = self.encoder.config.vision_config.image_size
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[None].float()
        square = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return (square.round().clamp(0, 255) / 127.5 - 1).to(self.device, self.encoder.dtype)
