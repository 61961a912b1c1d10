"""T5 encodes prompts as the reference does: embeddings and masks of a fixed length."""

import json
from pathlib import Path

import pytest
import torch

from longtake.models import checkpoints, parts
from longtake.models.t5 import T5TextEncoder


@pytest.fixture
def text(small_model: Path) -> T5TextEncoder:
    return T5TextEncoder(
        checkpoints.load(checkpoints.open_part("text_encoder", small_model / "text_encoder"), dtype=torch.float32),
        parts.tokenizer(small_model / "tokenizer"),
        num_tokens=8,
        device=torch.device("cpu"),
        dtype=torch.float32,
        cache_entries=2,
    )


def test_shapes_mask_and_padding(text: T5TextEncoder) -> None:
    prompt = text.encode("a red ball")
    assert prompt.embeddings.shape == (1, 8, 12)
    assert prompt.mask.tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    assert prompt.embeddings.isfinite().all()


def test_a_long_prompt_is_cut_and_an_empty_one_is_padded(text: T5TextEncoder) -> None:
    assert text.encode("ball " * 50).mask.tolist() == [[1] * 8]
    assert text.encode("").mask.tolist() == [[1] + [0] * 7]


def test_the_embeddings_are_those_of_transformers(text: T5TextEncoder, small_model: Path) -> None:
    from transformers import T5EncoderModel

    theirs = T5EncoderModel.from_pretrained(small_model / "text_encoder").eval()
    ids = torch.tensor([[3, 4, 6, 1, 0, 0, 0, 0]])
    expected = theirs(ids, attention_mask=(ids > 0).long())[0]
    assert torch.equal(text.encode("a red ball").embeddings, expected)
    assert not torch.equal(theirs(ids)[0][:, :4], expected[:, :4]), "the mask must matter for this to prove anything"


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


def test_different_prompts_differ(text: T5TextEncoder) -> None:
    assert not torch.equal(text.encode("a red ball").embeddings, text.encode("a blue ball").embeddings)
