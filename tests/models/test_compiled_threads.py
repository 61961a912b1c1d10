"""The limit on compiled variants is one of each thread."""

import threading
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
