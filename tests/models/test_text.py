"""Prompts become embeddings and masks of the card's length; repeated ones are remembered, not for ever."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.models import checkpoints, parts
from longtake.models.text import PromptCache, TextEncoder


@pytest.fixture
def text(small_model: Path) -> TextEncoder:
    encoder = checkpoints.load(checkpoints.open_part("text_encoder", small_model / "text_encoder"), dtype=torch.float32)
    return TextEncoder(
        "small",
        encoder,
        parts.tokenizer(small_model / "tokenizer"),
        tokens=8,
        device=torch.device("cpu"),
        dtype=torch.float32,
        cache=PromptCache(2),
    )


def _counted(text: TextEncoder) -> list[int]:
    calls: list[int] = []

    def count(*_: Any) -> None:
        calls.append(1)

    text.encoder.register_forward_hook(count)
    return calls


def test_shapes_mask_and_padding(text: TextEncoder) -> None:
    embeddings, mask = text.encode("a red ball")
    assert embeddings.shape == (1, 8, 12)
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert embeddings.isfinite().all()


def test_long_and_empty_prompts(text: TextEncoder) -> None:
    assert text.encode("ball " * 50)[1].tolist() == [[1] * 8]
    assert text.encode("")[1].tolist() == [[1] + [0] * 7]


def test_the_tensors_are_those_of_transformers(text: TextEncoder, small_model: Path) -> None:
    from transformers import T5EncoderModel

    theirs = T5EncoderModel.from_pretrained(small_model / "text_encoder").eval()
    ids = torch.tensor([[3, 4, 6, 1, 0, 0, 0, 0]])
    expected = theirs(ids, attention_mask=(ids > 0).long())[0]
    assert torch.equal(text.encode("a red ball")[0], expected)
    assert torch.equal(text.encode("  a red ball\n")[0], expected)
    assert not torch.equal(theirs(ids)[0][:, :4], expected[:, :4])


def test_a_sentencepiece_tokenizer_as_published(tmp_path: Path) -> None:
    import sentencepiece

    text = tmp_path / "text"
    text.write_text(
        "\n".join(["a red ball rolls to the left", "a blue cube falls", "the camera pans over a lake"] * 20)
    )
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=30,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 128, "legacy": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ids = parts.tokenizer(tmp_path)("a red ball", padding="max_length", max_length=32, truncation=True)
    expected = [
        *sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model")).encode("a red ball"),
        1,
    ]
    assert ids.input_ids == expected + [0] * (32 - len(expected))
    assert ids.attention_mask == [1] * len(expected) + [0] * (32 - len(expected))


def test_different_prompts_differ(text: TextEncoder) -> None:
    assert not torch.equal(text.encode("a red ball")[0], text.encode("a blue ball")[0])


def test_repeated_prompts_are_remembered_up_to_a_bound(text: TextEncoder) -> None:
    calls = _counted(text)
    first = text.encode("a")
    assert torch.equal(text.encode("a")[0], first[0])
    assert len(calls) == 1
    text.encode("red")
    text.encode("a")
    text.encode("blue")
    assert (len(calls), len(text.cache)) == (3, 2)
    text.encode("a")
    assert len(calls) == 3
    text.encode("red")
    assert len(calls) == 4


def test_models_that_share_a_cache_do_not_mix(text: TextEncoder) -> None:
    first = text.encode("a")[0]
    other = TextEncoder(
        "other", text.encoder, text.tokenizer, tokens=4, device=text.device, dtype=text.dtype, cache=text.cache
    )
    assert other.encode("a")[0].shape == (1, 4, 12)
    assert torch.equal(text.encode("a")[0], first)


def test_a_released_encoder_comes_back(text: TextEncoder) -> None:
    first = text.encode("a")[0]
    text.release()
    text.cache = PromptCache(2)
    assert torch.equal(text.encode("a")[0], first)
