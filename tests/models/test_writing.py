"""A text is written as transformers itself would write it, whatever memory holds its keys and values."""

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from longtake.models import writing
from longtake.models.checkpoints import load, open_part
from longtake.models.memory import current_gpu
from longtake.models.writing import MEMORY_STEP, UNRECORDED, Choice, FixedMemory, write
from tests.models import small_ltx2
from tests.simulated_gpu import can_simulate, simulated_gpus

CHOICE = Choice(temperature=6.0, top_k=64, top_p=0.95)
MOST = 12
END = 1
PROMPTS = (2, 14, 9, 5, 13, 11, 7), (2, 14)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small Gemma with a layer that attends to the last four tokens, and one that attends to all."""
    folder = small_ltx2.write_text(tmp_path_factory.mktemp("text"))
    return load(open_part("text_encoder", folder / "text_encoder"), dtype=torch.float32)


def _prompt(tokens: tuple[int, ...]) -> dict[str, Tensor]:
    ids = torch.tensor([tokens])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def _written(
    model: Any, tokens: tuple[int, ...], seed: int, *, is_fixed: bool, on_token: Any = lambda number: None
) -> list[int]:
    torch.manual_seed(seed)
    return write(model, _prompt(tokens), CHOICE, MOST, [END], on_token, is_fixed=is_fixed)


@pytest.mark.parametrize("is_fixed", [False, True])
def test_the_tokens_are_those_that_transformers_writes(model: Any, is_fixed: bool) -> None:
    texts: set[tuple[int, ...]] = set()
    for tokens in PROMPTS:
        for seed in range(8):
            torch.manual_seed(seed)
            expected = model.generate(
                **_prompt(tokens),
                do_sample=True,
                temperature=CHOICE.temperature,
                top_k=CHOICE.top_k,
                top_p=CHOICE.top_p,
                max_new_tokens=MOST,
                eos_token_id=[END],
                pad_token_id=0,
            )[0, len(tokens) :].tolist()
            assert _written(model, tokens, seed, is_fixed=is_fixed) == [one for one in expected if one != END]
            texts.add(tuple(expected))
    assert len(texts) > 8
    assert {len(text) for text in texts} > {MOST}, "some texts end by themselves, others are cut"


@pytest.mark.parametrize("is_fixed", [False, True])
def test_each_token_is_reported_and_an_exception_ends_the_writing(model: Any, is_fixed: bool) -> None:
    numbers: list[int] = []
    written = _written(model, PROMPTS[0], 0, is_fixed=is_fixed, on_token=numbers.append)
    assert numbers[: len(written)] == list(range(1, len(written) + 1))

    def stop(number: int) -> None:
        if number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _written(model, PROMPTS[0], 0, is_fixed=is_fixed, on_token=stop)


class Recording:
    """Stands for CUDA's graphs: what is recorded is not computed, and is repeated by `replay`."""

    def __init__(self, memory: FixedMemory, *, fails: bool = False) -> None:
        self.memory, self.fails = memory, fails
        self.num_recorded = self.num_replayed = 0

    def CUDAGraph(self) -> "Recording":
        return self

    def graph(self, recording: "Recording", stream: None, capture_error_mode: str) -> "Recording":
        assert capture_error_mode == "thread_local"
        return recording

    def __enter__(self) -> None:
        self.num_recorded += 1
        self.compute = self.memory._compute
        self.memory._compute = lambda: None  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        self.memory._compute = self.compute  # type: ignore[method-assign]
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")

    def replay(self) -> None:
        self.num_replayed += 1
        self.compute()


@pytest.mark.parametrize("fails", [False, True])
@torch.no_grad()
def test_the_work_for_a_token_is_recorded_once_and_repeated(
    model: Any, fails: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from transformers import DynamicCache

    tokens = torch.tensor(PROMPTS[0])
    memories: list[FixedMemory] = []
    for _ in range(2):
        cache = DynamicCache(config=model.config)
        model(input_ids=tokens[None], past_key_values=cache)
        memories.append(FixedMemory(model, cache, len(tokens), MOST))
    usual, recorded = memories
    recorded._can_record = True
    recording = Recording(recorded, fails=fails)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", recording.CUDAGraph)
    monkeypatch.setattr(torch.cuda, "graph", recording.graph)
    monkeypatch.setattr(writing, "_stream", lambda model, device: None)
    for number in (4, 9, 3, 12, 6):
        token = torch.tensor([number])
        assert torch.equal(recorded.logits(token), usual.logits(token))
    assert (recording.num_recorded, recording.num_replayed) == ((1, 0) if fails else (1, 3))
    assert ("without a CUDA graph" in caplog.text) == fails


@torch.no_grad()
def test_there_is_room_for_the_longest_text(model: Any) -> None:
    """The last of the written tokens is not read again, so the memory may be full before it."""
    long = tuple(3 + number % 12 for number in range(MEMORY_STEP - MOST))
    never = write(model, _prompt(long), CHOICE, MOST, [], lambda number: None, is_fixed=True)
    assert len(never) == MOST


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_models_on_several_gpus_write_in_one_process(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _written(model, PROMPTS[0], 0, is_fixed=False)
    assert len(expected) > UNRECORDED + 2
    with simulated_gpus(monkeypatch), torch.no_grad():
        for device in ("cuda:0", "cuda:1", "cuda:0"):
            with current_gpu(torch.device(device)):
                on_gpu = copy.deepcopy(model).to(device)
                prompt = {name: tensor.to(device) for name, tensor in _prompt(PROMPTS[0]).items()}
                torch.manual_seed(0)
                assert write(on_gpu, prompt, CHOICE, MOST, [END], lambda number: None, is_fixed=True) == expected
        del on_gpu, prompt


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_a_recorded_graph_writes_the_same_text(model: Any, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a GPU that is not the first one. The host waits once for each token."""
    seeds = range(3)
    expected = [_written(model, PROMPTS[0], seed, is_fixed=False) for seed in seeds]
    with simulated_gpus(monkeypatch) as gpus, current_gpu(torch.device(device)), torch.no_grad():
        on_gpu = copy.deepcopy(model).to(device)
        prompt = {name: tensor.to(device) for name, tensor in _prompt(PROMPTS[0]).items()}
        waits = list[int]()

        def on_token(number: int) -> None:
            waits.append(sum(crossing.waits for crossing in gpus.crossings))

        for seed in seeds:
            waits.clear()
            torch.manual_seed(seed)
            assert write(on_gpu, prompt, CHOICE, MOST, [END], on_token, is_fixed=True) == expected[seed]
            assert {later - earlier for earlier, later in itertools.pairwise(waits[UNRECORDED + 1 :])} <= {1}

        def stop(number: int) -> None:
            if number == UNRECORDED + 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):  # then no work is left that uses the memory
            write(on_gpu, prompt, CHOICE, MOST, [END], stop, is_fixed=True)
        del on_gpu, prompt
