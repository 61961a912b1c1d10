"""Several devices make predictions at the same time, in their own threads, and fail and end as one device does."""

import gc
import threading
import weakref
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from longtake.models.replicas import Copy, Replicas, moved
from tests.no_threads import no_threads

CPU, META = torch.device("cpu"), torch.device("meta")


def named(*names: str) -> Replicas:
    """Names in the place of transformers, all on the CPU."""
    first, *others = names
    return Replicas(first, CPU, tuple(Copy(name, CPU) for name in others))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_items_are_dealt_out_to_the_devices_and_the_results_are_in_order(count: int) -> None:
    replicas = named("a", "b", "c")
    results = replicas.run(lambda name, item: f"{name}{item}", range(count))
    assert results == ["a0", "b1", "c2", "a3", "b4", "c5", "a6"][:count]
    assert named("a").run(lambda name, item: f"{name}{item}", range(count))[-1] == f"a{count - 1}"


def test_the_devices_work_at_the_same_time_each_always_in_the_same_thread() -> None:
    replicas, barrier = named("a", "b", "c"), threading.Barrier(3, timeout=60)

    def work(name: str, item: int) -> tuple[str, int]:
        barrier.wait()  # nobody passes before all three are here
        return name, threading.get_ident()

    first, second = replicas.run(work, range(3)), replicas.run(work, range(3))
    assert first == second
    assert len({thread for _, thread in first}) == 3
    assert first[0][1] == threading.get_ident(), "the first device works in the caller's thread"


def test_the_threads_have_the_callers_modes() -> None:
    def modes(name: str, item: int) -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    replicas = named("a", "b")
    with torch.inference_mode():
        assert set(replicas.run(modes, range(2))) == {(True, False)}
    with torch.no_grad():
        assert set(replicas.run(modes, range(2))) == {(False, False)}
    with torch.enable_grad():
        assert set(replicas.run(modes, range(2))) == {(False, True)}


@pytest.mark.parametrize("failing", ["a", "b", "c"])
def test_an_error_reaches_the_caller_when_all_devices_have_ended(failing: str) -> None:
    replicas, ended, has_failed = named("a", "b", "c"), set[str](), threading.Event()

    def work(name: str, item: int) -> str:
        if name == failing:
            has_failed.set()
            raise torch.OutOfMemoryError(f"no memory on {name}")
        assert has_failed.wait(60)
        ended.add(name)
        return name

    with pytest.raises(torch.OutOfMemoryError, match=f"no memory on {failing}"):
        replicas.run(work, range(3))
    assert ended == {"a", "b", "c"} - {failing}
    assert replicas.run(lambda name, item: name, range(3)) == ["a", "b", "c"], "the next request"


def test_without_threads_there_is_no_copy_and_a_request_needs_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with no_threads(monkeypatch, "replica", allowed=1), pytest.raises(OSError, match="no more threads"):
        named("a", "b", "c")
    replicas = named("a", "b", "c")
    with no_threads(monkeypatch):
        assert replicas.run(lambda name, item: name, range(3)) == ["a", "b", "c"]


class Module:
    """Stands for a transformer."""


def test_a_copys_thread_ends_with_it_and_keeps_nothing_of_it() -> None:
    def fails(module: Module, item: int) -> None:
        raise RuntimeError(item)

    replicas = Replicas(Module(), CPU, (Copy(Module(), CPU),))
    copy, (thread,) = weakref.ref(replicas.copies[0].transformer), tuple(replicas.copies[0]._thread._threads)
    with pytest.raises(RuntimeError):
        replicas.run(fails, range(2))
    del replicas
    gc.collect()  # the error refers to itself
    thread.join(60)
    assert (copy(), thread.is_alive()) == (None, False)


@dataclass(frozen=True)
class Inputs:
    tokens: dict[str, Tensor]
    others: tuple[list[Tensor], str]


def test_values_are_moved_with_all_their_tensors() -> None:
    tensor = torch.ones(2)
    inputs = Inputs({"video": tensor}, ([tensor], "name"))
    there = moved(inputs, META)
    assert (there.tokens["video"].device, there.others[0][0].device, there.others[1]) == (META, META, "name")
    assert moved(inputs, CPU).others[0][0] is tensor, "what is there already is not copied"
    places = Replicas(None, CPU, (Copy(None, META),)).everywhere(inputs)
    assert places[0] is inputs
    assert places[1].tokens["video"].device == META


def test_the_log_names_devices_without_work(caplog: pytest.LogCaptureFixture) -> None:
    replicas = named("a", "b", "c")
    with caplog.at_level("INFO", "longtake.models.replicas"):
        replicas.log_idle(3)
        assert caplog.messages == []
        replicas.log_idle(2)
        replicas.log_idle(1)
    assert caplog.messages == [
        "The request needs 2 predictions in a step, so cpu has no work.",
        "The request needs 1 prediction in a step, so cpu and cpu have no work.",
    ]
