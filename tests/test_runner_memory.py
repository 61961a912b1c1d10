"""A request that runs out of memory is made once more with less, and then says what needs less. One that continues an
earlier attempt says if that computed otherwise."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.endpoints import ltx23
from longtake.endpoints.validation import parse
from longtake.errors import MemoryRanOut
from longtake.families.ltx2.plan import LTX2Plan
from longtake.models.choice import named_model
from longtake.models.memory import low_memory
from longtake.models.merging import Originals
from longtake.models.registry import card, missing
from longtake.planning import Overrides
from longtake.prepare import Fetcher, prepare
from longtake.runner import LOW_MEMORY_NOTE, Result, Runner, arithmetic
from longtake.sampling.resume import Resume
from longtake.settings import settings
from tests.test_runner_ltx2 import FEW, NEW, QUICK, SILENT, film

Place = Callable[[Any], tuple[Any, str]]
"""A function of the loaded model that returns the object and the name of the method in which the memory runs out."""

PLACES: dict[str, Place] = {
    "text": lambda model: (model.text, "encode"),
    "encode": lambda model: (model.vae, "encode"),
    "sampling": lambda model: (model.transformer, "forward"),
    "decode": lambda model: (model.vae, "decode"),
}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("source") / "clip.mov", sound=False)


@pytest.fixture(scope="module")
def runner() -> Runner:
    if missing(card("ltx2-tiny"), settings()):
        pytest.skip("the weights of the embedded model with sound are not in the package")
    return Runner(settings())


def _run(runner: Runner, clip: Path, folder: Path, **options: Any) -> Result:
    request = parse(ltx23.Request, {"prompt": "a red circle", "video_url": str(clip), "seed": 3} | QUICK | SILENT)
    overrides = Overrides(new_frames=NEW, output="X264 (.mp4)", quality="low", write_mode="fast")
    model, local = named_model("ltx2-tiny", settings()), Fetcher(allow_local=True)
    with prepare(ltx23.ENDPOINT, request, model, settings(), overrides=overrides, fetcher=local) as job:
        assert isinstance(job.plan, LTX2Plan)
        return runner.run(replace(job, plan=replace(job.plan, steps=FEW)), folder / "out.mp4", **options)


def _fails(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, times: int) -> list[bool]:
    """Makes a method run out of memory in its first calls. Returns a list with `low_memory` at each call."""
    own, calls = getattr(owner, name), list[bool]()

    def method(*arguments: Any, **options: Any) -> Any:
        calls.append(low_memory.get())
        if len(calls) <= times:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return own(*arguments, **options)

    monkeypatch.setattr(owner, name, method)
    return calls


@pytest.mark.parametrize("stage", PLACES)
def test_a_request_is_made_again_with_less_memory(
    runner: Runner, clip: Path, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = PLACES[stage](runner.load(card("ltx2-tiny")))
    calls = _fails(monkeypatch, owner, name, times=1)
    resume = Resume(tmp_path)
    result = _run(runner, clip, tmp_path, resume=resume)
    assert result.path.exists()
    assert LOW_MEMORY_NOTE in result.notes
    assert calls[0] is False
    assert calls[1:]
    assert all(calls[1:])
    assert resume.is_low_memory
    assert not low_memory.get(), "later requests have their usual batches"


def test_a_resumed_request_keeps_to_less_memory(
    runner: Runner, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = Resume(tmp_path)
    resume.set_low_memory()
    owner, name = PLACES["text"](runner.load(card("ltx2-tiny")))
    calls = _fails(monkeypatch, owner, name, times=0)
    assert LOW_MEMORY_NOTE in _run(runner, clip, tmp_path, resume=resume).notes
    assert calls
    assert all(calls)


def test_the_second_time_a_sentence_says_what_needs_less(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(settings())
    model: Any = runner.load(card("ltx2-tiny"))
    calls = _fails(monkeypatch, model.text, "encode", times=9)
    with pytest.raises(MemoryRanOut, match=r"LONGTAKE_OFFLOAD=group, .*fp8, a lower resolution or fewer frames\.$"):
        _run(runner, clip, tmp_path)
    assert calls == [False, True]
    assert runner.load(card("ltx2-tiny")) is not model, "the memory of the model was given back"


def test_a_continued_request_says_that_the_earlier_attempt_computed_otherwise(
    runner: Runner, clip: Path, tmp_path: Path
) -> None:
    model: Any = runner.load(card("ltx2-tiny"))
    elsewhere = Runner(settings(), load_model=lambda *_: replace(model, arithmetic="bfloat16 elsewhere"))
    resume = Resume(tmp_path)
    assert not any("elsewhere" in note for note in _run(elsewhere, clip, tmp_path, resume=resume).notes)
    notes = _run(runner, clip, tmp_path, resume=resume).notes
    assert any(f"computed in bfloat16 elsewhere, this one in {model.arithmetic}" in note for note in notes)


def test_adapters_that_are_not_merged_are_another_arithmetic(runner: Runner) -> None:
    merging: Any = runner.load(card("ltx2-tiny"))
    beside = replace(merging, originals=Originals("none"))
    texts = [arithmetic(model, has_adapters=has) for model in (merging, beside) for has in (False, True)]
    assert texts[:3] == [merging.arithmetic] * 3
    assert texts[3] == f"{merging.arithmetic}, adapters beside the weights"
