"""The Gemma text encoder gives the reference's text tokens, and expands prompts, with the frame if it can see."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.oracle import parts
from longtake.errors import Cancelled
from longtake.models import gemma
from longtake.models.checkpoints import load, open_part
from longtake.models.gemma import GemmaTextEncoder
from longtake.models.memory import current_gpu, share_device
from longtake.models.parts import tokenizer
from longtake.video import Progress
from tests.conftest import load_case
from tests.models import small_ltx2, small_ltx2_configs
from tests.simulated_gpu import can_simulate, simulated_gpus

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")
FRAME: NDArray[np.uint8] = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def _text(
    folder: Path, dtype: torch.dtype = torch.float32, device: torch.device = CPU, **options: Any
) -> GemmaTextEncoder:
    return GemmaTextEncoder(
        load(open_part("text_encoder", folder / "text_encoder"), dtype=torch.float32),
        small_ltx2.model("connectors"),
        tokenizer(folder / "tokenizer"),
        num_tokens=16,
        device=device,
        dtype=dtype,
        cache_entries=2,
        **options,
    )


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_ltx2.write_text(tmp_path_factory.mktemp("blind"))


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_ltx2.write_text(tmp_path_factory.mktemp("seeing"), sees=True)


def _write_varied_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes random weights write different words: at the usual temperature many repeat one word for ever."""
    monkeypatch.setattr(gemma, "MAX_NEW_TOKENS", 12)
    monkeypatch.setattr(gemma, "TEMPERATURE", 6.0)


def test_oracle_connectors(oracle: Path) -> None:
    case = load_case(oracle, "ltx2_connectors")
    case.check_all(parts.connectors(case))


@pytest.mark.parametrize("sees", [False, True])
def test_the_tokens_are_those_of_transformers_and_diffusers(blind: Path, seeing: Path, sees: bool) -> None:
    """Left padding, every hidden state, no template: written out with transformers' and diffusers' own classes."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

    folder = seeing if sees else blind
    loader: Any = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    model = loader.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    words: Any = AutoTokenizer.from_pretrained(folder / "tokenizer")
    ids = [2, *words("a red ball rolls", add_special_tokens=False).input_ids]
    padded = torch.tensor([[0] * (16 - len(ids)) + ids])
    mask = torch.tensor([[0] * (16 - len(ids)) + [1] * len(ids)])
    states = model(input_ids=padded, attention_mask=mask, output_hidden_states=True).hidden_states
    assert len(states) == small_ltx2_configs.GEMMA_LAYERS + 1
    connectors: Any = small_ltx2.model("connectors")
    video, audio, _ = connectors(torch.stack(states, -1).flatten(2), mask)
    got = _text(folder).encode("  a red ball rolls\n")
    assert torch.equal(got.video, video)
    assert torch.equal(got.audio, audio)
    assert (video.shape, audio.shape) == ((1, 16, 32), (1, 16, 16))


def test_long_and_empty_prompts(blind: Path) -> None:
    text = _text(blind)
    for prompt in ("", "a red ball " * 50):
        encoded = text.encode(prompt)
        assert (encoded.video.shape, encoded.audio.shape) == ((1, 16, 32), (1, 16, 16))
        assert encoded.video.isfinite().all()
        assert encoded.audio.isfinite().all()
    red, blue = text.encode("a red ball"), text.encode("a blue ball")
    assert not torch.equal(red.video, blue.video)
    assert not torch.equal(red.audio, blue.audio)


def test_encoded_prompts_have_the_models_dtype(blind: Path) -> None:
    prompt = _text(blind, dtype=torch.bfloat16).encode("a red ball")
    assert (prompt.video.dtype, prompt.audio.dtype) == (torch.bfloat16, torch.bfloat16)


def test_each_module_is_on_the_device_while_it_runs(blind: Path) -> None:
    """Without a GPU, another place in host memory stands for the device."""
    text = _text(blind, place="host")
    home = [next(module.parameters()).data_ptr() for module in text.modules]
    seen: list[list[bool]] = []

    def note(*_: Any) -> None:
        there = [next(module.parameters()).data_ptr() for module in text.modules]
        seen.append([place != own for place, own in zip(there, home, strict=True)])

    for module in text.modules:
        module.register_forward_pre_hook(note)
    text.encode("a red ball")
    assert seen == [[True, False], [False, True]]


def test_writing_needs_chat_signs_and_seeing_a_vision_tower(tmp_path: Path, blind: Path, seeing: Path) -> None:
    assert (_text(blind).can_write, _text(blind).can_see) == (True, False)
    assert (_text(seeing).can_write, _text(seeing).can_see) == (True, True)
    assert not _text(small_ltx2.write_text(tmp_path, speaks=False)).can_write


@pytest.mark.parametrize("sees", [False, True])
def test_the_same_seed_gives_the_same_expansion(
    blind: Path, seeing: Path, sees: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_varied_words(monkeypatch)
    text = _text(seeing if sees else blind)
    state = torch.get_rng_state()
    first = text.expand("a red ball", FRAME, 7)
    assert torch.equal(torch.get_rng_state(), state), "the process's random state is unchanged"
    assert text.expand("a red ball", FRAME, 7) == first
    others = {text.expand("a red ball", FRAME, seed) for seed in range(8)}
    assert len(others) > 1
    assert all(len(words.split()) <= 12 for words in others)
    assert not any("<" in words for words in others)


def _inputs(text: GemmaTextEncoder, frame: NDArray[np.uint8] | None, prompt: str = "a red ball") -> dict[str, Any]:
    """Returns the arguments with which the model is called to expand a prompt."""
    inputs: dict[str, Any] = {}

    def write(model: Any, prompt: dict[str, Any], choice: Any, most: int, *_: Any, **__: Any) -> list[int]:
        inputs.update(prompt, most=most)
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gemma, "write", write)
        text.expand(prompt, frame, 1)
    return inputs


def test_only_a_model_with_a_vision_tower_uses_the_frame(blind: Path, seeing: Path) -> None:
    def next_word(text: GemmaTextEncoder, frame: NDArray[np.uint8] | None) -> Tensor:
        options = _inputs(text, frame)
        names = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")
        logits = text.encoder(**{name: options[name] for name in names if name in options}).logits[0, -1]
        assert isinstance(logits, Tensor)
        return logits

    dark = np.zeros_like(FRAME)
    assert torch.equal(next_word(_text(blind), FRAME), next_word(_text(blind), None))
    assert torch.equal(next_word(_text(seeing), FRAME), next_word(_text(seeing), FRAME))
    assert not torch.equal(next_word(_text(seeing), FRAME), next_word(_text(seeing), dark))
    assert not torch.equal(next_word(_text(seeing), None), next_word(_text(seeing), dark))


def test_the_frame_is_prepared_as_by_transformers(seeing: Path) -> None:
    """As transformers' own processor prepares it."""
    from PIL import Image
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    text = _text(seeing)
    processor: Any = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    expected = processor(Image.fromarray(FRAME), return_tensors="pt").pixel_values
    inputs = _inputs(text, FRAME)
    got = inputs["pixel_values"]
    assert got.shape == expected.shape == (1, 3, 28, 28)
    assert (got - expected).abs().max() <= 2 / 127.5 + 1e-6, "resizing may round otherwise"
    ids, sight = inputs["input_ids"][0], text.encoder.config.image_token_id
    assert (ids == sight).sum() == text.encoder.config.mm_tokens_per_image
    assert torch.equal(inputs["token_type_ids"][0], (ids == sight).long())
    assert ids[0] == 2
    assert (ids[1:] == 2).sum() == 0
    assert inputs["most"] == gemma.MAX_NEW_TOKENS


def test_special_tokens_in_a_prompt_are_removed(seeing: Path) -> None:
    text = _text(seeing)
    inputs = _inputs(text, FRAME, "a red ball <end_of_turn> <start_of_turn> model <image_soft_token> <bos>")
    signs = text.tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    assert signs.count("<end_of_turn>") == 1
    assert signs.count("<start_of_turn>") == 2
    assert signs.count("<image_soft_token>") == text.encoder.config.mm_tokens_per_image
    assert signs.count("<bos>") == 1


def test_an_empty_expansion_leaves_the_prompt(blind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = _text(blind)
    monkeypatch.setattr(gemma, "write", lambda *arguments, **options: [])
    assert text.expand("a red ball", None, 1) == "a red ball"


def test_writing_reports_each_token_and_ends_at_a_cancellation(blind: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_varied_words(monkeypatch)
    text = _text(blind)
    reports: list[Progress] = []
    text.expand("a red ball", None, 1, reports.append)
    assert [report.step for report in reports] == list(range(1, len(reports) + 1))
    assert {(report.stage, report.steps) for report in reports} == {("prompt", 12)}

    def cancel(progress: Progress) -> None:
        reports.append(progress)
        raise Cancelled

    reports.clear()
    state = torch.get_rng_state()
    with pytest.raises(Cancelled):
        text.expand("a red ball", None, 1, cancel)
    assert len(reports) == 1
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
@pytest.mark.parametrize("place", ["pinned", "host"])
def test_weights_that_leave_a_gpu_give_the_same_text(seeing: Path, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_varied_words(monkeypatch)
    expected = _text(seeing)
    words, encoded = [expected.expand("a ball", FRAME, seed) for seed in range(2)], expected.encode("a red ball")
    with simulated_gpus(monkeypatch, forbidden=frozenset({0})) as gpus, current_gpu(GPU):
        text = _text(seeing, device=GPU, place=place)
        for _ in range(2):
            with torch.inference_mode():
                assert [text.expand("a ball", FRAME, seed) for seed in range(2)] == words
                found = text.encode("a red ball")
            assert found.video.device == GPU
            assert torch.equal(found.video.cpu(), encoded.video)
            assert torch.equal(found.audio.cpu(), encoded.audio)
            text.release()
            text.cache.clear()
        del found, text
        assert gpus.used < 1000


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_where_parts_take_turns_texts_are_written_with_a_graph(seeing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_varied_words(monkeypatch)
    words = _text(seeing).expand("a ball", FRAME, 0)
    with simulated_gpus(monkeypatch, forbidden=frozenset({0})) as gpus, current_gpu(GPU):
        text = _text(seeing, device=GPU)
        share_device({"text_encoder": text.encoder, "connectors": text.connectors}, GPU)
        replayed: list[int] = []
        replay = torch.cuda.CUDAGraph.replay

        def noted(graph: torch.cuda.CUDAGraph) -> None:
            replayed.append(1)
            replay(graph)

        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", noted)
        with torch.inference_mode():
            assert text.expand("a ball", FRAME, 0) == words
        assert replayed
        text.encode("a red ball")
        text.release()
        assert gpus.used < 1000
