"""Threads that use compiled code: the limit on variants is one of each thread, and they use it one at a time."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from longtake.models.compiled import BlockForward, CompiledBlocks


def test_every_thread_may_compile_as_many_variants(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process on a GPU has two threads that use the model in turns."""
    real = torch.compile

    def only_traced(run: Callable[..., Any], **options: Any) -> Any:
        return real(run, fullgraph=options["fullgraph"], dynamic=options["dynamic"], backend="eager")

    monkeypatch.setattr(torch, "compile", only_traced)
    torch._dynamo.reset()
    blocks = CompiledBlocks(BlockForward(lambda block, x: x + x.shape[0], lambda vary, x: (x,)))
    errors = list[Exception]()

    def use() -> None:
        try:
            for size in range(1, torch._dynamo.config.recompile_limit + 3):
                blocks(None, torch.ones(size, 1))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors == []
    torch._dynamo.reset()


def test_one_thread_at_a_time_is_in_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several devices of a slot have a thread each, and torch's compiler has flags of the whole process."""
    inside, errors, barrier = threading.Lock(), list[str](), threading.Barrier(2, timeout=60)

    def compiled(run: Callable[..., Any], **options: Any) -> Any:
        def alone(block: Any, x: int) -> int:
            if not inside.acquire(blocking=False):
                errors.append("two threads are in compiled code")
                return x
            time.sleep(0)  # lets the other thread run
            inside.release()
            return x

        return alone

    monkeypatch.setattr(torch, "compile", compiled)
    blocks = CompiledBlocks(BlockForward(lambda block, x: x, lambda vary, x: (x,)))

    def use() -> None:
        barrier.wait()
        for number in range(500):
            blocks(None, number)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
