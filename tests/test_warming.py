"""A server's first request finds its adapters read and its code compiled, or the log says why not."""

import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake import warming
from longtake.endpoints import ltx23
from longtake.endpoints.validation import parse
from longtake.families.ltx2.plan import LTX2Plan
from longtake.families.ltxv import generate
from longtake.families.ltxv.guidance import Guide, guided_velocity
from longtake.families.ltxv.plan import LTXVPlan
from longtake.families.ltxv.profiles import Guidance
from longtake.host_memory import HostMemory
from longtake.models import loras, vae_format
from longtake.models.choice import named_model
from longtake.models.low_rank import LayerWithTerms
from longtake.models.registry import adapters, card, missing
from longtake.planning import Overrides
from longtake.prepare import Fetcher, prepare
from longtake.runner import Runner
from longtake.settings import Settings, settings
from longtake.video import Progress
from longtake.warming import default_plans, warm_up
from tests.simulated_gpu import can_simulate, simulated_gpus
from tests.test_runner_ltx2 import NEW, film

CARD = card("ltx2-tiny")

pytestmark = pytest.mark.skipif(bool(missing(CARD, settings())), reason="the embedded model has no weights here")


@pytest.fixture
def variants(monkeypatch: pytest.MonkeyPatch) -> set[Any]:
    """What blocks were compiled for, as far as compiled code depends on it: the predictions that are made together, the
    adapters, and the dtypes. Nothing is compiled, because that takes long."""
    found = set[Any]()

    def noted(run: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        def noting(block: Any, hidden: Any, inputs: Any) -> Any:
            rows = [(stream, len(states), states.dtype) for stream, states in hidden.items()]
            layer = block.attn1.to_q
            rank = len(layer.a) if isinstance(layer, LayerWithTerms) else None
            weights = next(layer.parameters()).dtype
            found.add((tuple(rows), tuple(inputs.disturbed.items()), inputs.connected, rank, weights))
            return run(block, hidden, inputs)

        return noting

    monkeypatch.setattr(torch, "compile", noted)
    return found


@pytest.fixture
def num_reads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """The number of times that an adapter was read from its file."""
    own, calls = loras.read, list[Path]()

    def read(path: Path, *arguments: Any, **options: Any) -> loras.Adapter:
        calls.append(path)
        return own(path, *arguments, **options)

    monkeypatch.setattr(loras, "read", read)
    return lambda: len(calls)


def _make_video(runner: Runner, current: Settings, folder: Path) -> None:
    """Carries out a request with default values, but for its size and its number of steps."""
    clip = film(folder / "clip.mov", sound=True)
    request = parse(ltx23.Request, {"prompt": "a red circle", "video_url": str(clip), "enable_prompt_expansion": False})
    overrides = Overrides(new_frames=NEW, output="X264 (.mp4)", quality="low", write_mode="fast")
    model, local = named_model(CARD.name, current), Fetcher(allow_local=True)
    with prepare(ltx23.ENDPOINT, request, model, current, overrides=overrides, fetcher=local) as job:
        assert isinstance(job.plan, LTX2Plan)
        runner.run(replace(job, plan=replace(job.plan, steps=1)), folder / "out.mp4")


def test_the_first_request_reads_no_adapter_and_compiles_nothing(
    tmp_path: Path, variants: set[Any], num_reads: Callable[[], int]
) -> None:
    """Adapters are computed beside weights in 8 bits, and then the blocks need other code."""
    current = settings(compile="on", quantise="fp8", compiled_dir=tmp_path / "compiled")
    runner = Runner(current)
    warm_up(runner, CARD, default_plans(CARD, current), current)
    assert num_reads() == 1
    before = set(variants)
    variants.clear()
    _make_video(runner, current, tmp_path)
    assert variants <= before
    assert {rank for *_, rank, _ in variants} == {16}
    assert num_reads() == 1


def test_a_model_of_0_9_is_evaluated_with_each_guidance_of_each_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler is not called, because that takes long."""
    monkeypatch.setattr(torch, "compile", lambda run, **_: run)
    current, small = settings(compile="on", compiled_dir=tmp_path), card("ltxv-tiny")
    plans, found = default_plans(small, current), list[tuple[Guidance, int]]()

    def noted(guide: Guide, tokens: Any, levels: Any, coords: Any, level: float) -> Any:
        found.append((guide.guidance, guide.guidance.bin(level)))
        return guided_velocity(guide, tokens, levels, coords, level)

    monkeypatch.setattr(generate, "guided_velocity", noted)
    warm_up(Runner(current), small, plans, current)
    assert all(isinstance(plan, LTXVPlan) for plan in plans)
    assert max(len(guidance.cfg) for guidance, _ in found) > 1
    for guidance, _ in found:
        assert {bin for one, bin in found if one is guidance} == set(range(len(guidance.cfg)))


PARTS = {
    "ltx2-tiny": (
        "vae.encode",
        "vae.decode",
        "upsampler.forward",
        "audio_vae.encode",
        "audio_vae.decode",
        "text.expand",
    ),
    "ltxv-tiny": ("vae.encode", "vae.decode"),
}
"""The parts of each model that a default request uses besides the transformer and the prompt's encoder, as
object.method."""


@pytest.mark.parametrize("name", PARTS)
def test_each_part_of_a_model_has_worked_before_the_first_request(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries prepare themselves when they are used for the first time. The compiler is not called."""
    monkeypatch.setattr(torch, "compile", lambda run, **_: run)
    current, chosen, used = settings(compile="on", compiled_dir=tmp_path), card(name), list[str]()
    runner = Runner(current)
    model: Any = runner.load(chosen)

    def write(prompt: str, frame: Any, seed: int, on_progress: Callable[[Progress], None]) -> str:
        for number in count(1):
            used.append("text.expand")
            on_progress(Progress("prompt", number, 400))
        raise AssertionError

    monkeypatch.setattr(type(model.text), "can_write", True, raising=False)
    for place in PARTS[name]:
        part, method = place.split(".")
        own = write if place == "text.expand" else getattr(getattr(model, part), method)

        def noted(*given: Any, own: Any = own, place: str = place, **named: Any) -> Any:
            used.append(place)
            return own(*given, **named)

        monkeypatch.setattr(getattr(model, part), method, noted)
    plans = default_plans(chosen, current)
    warm_up(runner, chosen, plans, current)
    assert {*used} == {*PARTS[name]}
    assert used.count("text.expand") <= 7 * len(plans), "a few words are enough"


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_adapters_wait_in_pinned_memory_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, num_reads: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    current = settings(device="cuda", compile="off", lora_cache_bytes=2**30)
    monkeypatch.setattr(vae_format, "decode_seconds", lambda vae, device: 1.0)
    with simulated_gpus(monkeypatch) as gpus, caplog.at_level(logging.INFO):
        runner = Runner(current)
        warm_up(runner, CARD, default_plans(CARD, current), current)
        assert "The adapter distill (0.0 GB) is in pinned host memory" in caplog.text
        assert not any(record.levelno > logging.INFO for record in caplog.records)
        pairs = [pair for adapter in runner._adapters._adapters.values() for pair in adapter.pairs.values()]
        assert pairs
        assert all(gpus.is_pinned(side) for pair in pairs for side in (pair.a, pair.b))
        assert num_reads() == 1


@pytest.mark.parametrize(
    ("changes", "free", "reason"),
    [
        ({"lora_cache_bytes": 10}, 10**9, "bytes, and LONGTAKE_LORA_CACHE_BYTES is 10."),
        ({}, 10, "bytes of host memory, and 10 bytes are free."),
    ],
)
def test_the_log_says_why_an_adapter_is_not_read_in_advance(
    monkeypatch: pytest.MonkeyPatch,
    num_reads: Callable[[], int],
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    free: int,
    reason: str,
) -> None:
    monkeypatch.setattr(warming, "host_memory", lambda: HostMemory(free, 10**9))
    current = settings(**changes)
    warm_up(Runner(current), CARD, default_plans(CARD, current), current)
    assert "The adapter distill was not read in advance, so requests wait for it: it " in caplog.text
    assert reason in caplog.text
    assert num_reads() == 0


@pytest.mark.parametrize("pinned", [True, False])
def test_pinned_memory_needs_more_room(
    monkeypatch: pytest.MonkeyPatch, num_reads: Callable[[], int], pinned: bool
) -> None:
    size = adapters(CARD, settings())["distill"].stat().st_size
    monkeypatch.setattr(warming, "host_memory", lambda: HostMemory(size * 3 // 2, 10**9))
    runner = Runner(settings())
    monkeypatch.setattr(runner, "pins_adapters", lambda _: pinned)
    warm_up(runner, CARD, default_plans(CARD, settings()), settings())
    assert num_reads() == (0 if pinned else 1)


def test_a_missing_adapter_and_a_trial_that_fails_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Runner(settings())
    model: Any = runner.load(CARD)
    monkeypatch.setattr(model.text, "encode", lambda prompt: 1 / 0)
    without = replace(CARD, name="bare")
    bare = Runner(settings(), load_model=lambda *_: replace(model, card=without))
    warm_up(bare, without, default_plans(CARD, settings()), settings(compile="on"))
    assert "requests wait for it: The adapter distill is none of bare, which has no adapters." in caplog.text
    assert (
        "The first request to fal-ai/ltx-2.3-22b/extend-video may take longer than later ones: ZeroDivisionError"
        in caplog.text
    )


def test_the_plans_are_those_of_the_endpoints_that_the_model_serves() -> None:
    plans = {plan.endpoint: plan for plan in default_plans(CARD, settings())}
    assert set(plans) == {f"fal-ai/ltx-2.3{name}/extend-video" for name in ("-22b", "-quality", "")}, "no LoRA is named"
    assert [one.scales for one in plans[ltx23.ENDPOINT.id].adapters] == [(0.2, 0.5)]
    others = default_plans(card("ltxv-tiny"), settings())
    assert [len(plan.adapters) for plan in others] == [0, 0, 0, 0]
