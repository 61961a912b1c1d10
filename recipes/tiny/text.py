"""The language of the toy world: its tokenizer, its text encoder, and random variations of prompts."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from recipes.tiny import configs
from recipes.tiny.world import COLOURS, DIRECTIONS, SHAPES, TEXTURES

GRAMMAR = (
    *("a", "an", "the", "and", "over", "on", "with", "of", "to", "is", "it", "in", "out", ",", "."),
    *(
        "background",
        "moving",
        "moves",
        "still",
        "rotating",
        "rotates",
        "bouncing",
        "bounces",
        "camera",
        "pans",
        "zooms",
    ),
    *("slowly", "quickly", "continues", "video", "static"),
)
WORDS = (*COLOURS, *SHAPES, *TEXTURES, *DIRECTIONS, *GRAMMAR)
PAD, END, UNKNOWN = 0, 1, 2


def tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer with one token per known word. Every other word is `<unk>`."""
    vocabulary = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.normalizer = normalizers.Lowercase()
    split = pre_tokenizers.Split(Regex(r"[,.]"), "isolated")
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), split])
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=configs.SEQUENCE,
    )


def text_encoder() -> Any:
    """Returns a new T5 encoder of one layer."""
    return T5EncoderModel(T5Config(**configs.TEXT_ENCODER))


def tokens(words: PreTrainedTokenizerFast, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the token ids and the mask of prompts, `[B, SEQUENCE]` each. Prompts are cut or padded to SEQUENCE."""
    out = words(list(prompts), padding="max_length", max_length=configs.SEQUENCE, truncation=True, return_tensors="pt")
    return out.input_ids, out.attention_mask


def vary(prompt: str, rng: random.Random) -> str:
    """Returns in half of the cases the prompt itself, otherwise a random variation of it.

    A variation is empty, has unknown words, or lacks some of the words. Users may write such prompts.
    """
    fate = rng.random()
    if fate < 0.12:
        return ""
    if fate < 0.16:
        return " ".join(rng.choice(("?", "?", "?", "?", ",")) for _ in range(rng.randint(1, 30)))
    words = prompt.split(" ")
    if fate < 0.28:
        for _ in range(rng.randint(1, 8)):
            words.insert(rng.randint(0, len(words)), "?")
    elif fate < 0.36:
        words = [word if rng.random() < 0.8 else "?" for word in words]
    elif fate < 0.44:
        words = [word for word in words if word not in ("a", "slowly", "quickly")]
    elif fate < 0.50 and "over" in words:
        words = words[: words.index("over")]
    return " ".join(words)
