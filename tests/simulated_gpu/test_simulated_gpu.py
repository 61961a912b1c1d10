"""The simulated GPUs show the mistakes that they are made for, and compute right what is right."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.simulated_gpu import Gpus, can_simulate, simulated_gpus

pytestmark = pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    """Two GPUs. Each test looks at their faults itself."""
    with simulated_gpus(monkeypatch) as made:
        yield made
        made.streams.faults.clear()


def _faults(gpus: Gpus) -> set[str]:
    torch.cuda.synchronize()
    return {fault.split(": ")[1] for fault in gpus.streams.faults}


def test_results_are_those_of_the_cpu(gpus: Gpus) -> None:
    layer, x = torch.nn.Linear(6, 6), torch.randn(4, 6)
    expected = torch.nn.functional.gelu(layer(x))[:, ::2].t()
    layer.to("cuda")
    result = torch.nn.functional.gelu(layer(x.to("cuda")))[:, ::2].t()
    assert result.device == torch.device("cuda:0")
    assert torch.equal(result.cpu(), expected)


def test_tensors_of_different_devices_do_not_mix(gpus: Gpus) -> None:
    here, there, host = torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1"), torch.ones(3)
    for other in (there, host):
        with pytest.raises(RuntimeError, match="on the same device"):
            here + other
        with pytest.raises(RuntimeError, match="on the same device"):
            torch.cat([here, other])
    assert (here * host[0] + 1).sum().item() == 6, "single numbers may be in host memory"
    with pytest.raises(TypeError, match="cuda"):
        here.numpy()


def test_what_the_host_waits_for_is_counted(gpus: Gpus) -> None:
    x = torch.ones(3).pin_memory().to("cuda", non_blocking=True)
    x = x.clamp(max=1) * 2
    assert [crossing.waits for crossing in gpus.crossings] == [False]
    assert bool((x > 1).all())
    assert [crossing.kind for crossing in gpus.crossings[1:]] == ["sync"]
    x[[0, 2]].cpu()
    assert [crossing.kind for crossing in gpus.crossings[2:]] == ["to device", "to host"]
    assert all(crossing.waits for crossing in gpus.crossings[1:])


def test_memory_is_counted_and_can_run_out(gpus: Gpus) -> None:
    x = torch.zeros(1000, device="cuda")
    assert gpus.used == 4000
    y = x.view(10, 100)
    del x
    assert gpus.used == 4000, "a view keeps it"
    del y
    assert (gpus.used, gpus.peak) == (0, 4000)
    gpus.fails_at = lambda number: True
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(1, device="cuda")


def test_pinned_memory_must_stay_as_it_is_until_it_is_copied(gpus: Gpus) -> None:
    host = torch.ones(3).pin_memory()
    host.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    host.zero_()
    assert not _faults(gpus)
    host.to("cuda", non_blocking=True)
    host.fill_(2)
    assert _faults(gpus) == {"pinned memory changed before it was copied to the device"}


def test_values_arrive_in_host_memory_when_the_host_has_waited(gpus: Gpus) -> None:
    host = torch.ones(3, device="cuda").to("cpu", non_blocking=True)
    assert host.isnan().all()
    torch.cuda.current_stream().synchronize()
    assert (host == 1).all()


def test_a_stream_must_wait_for_another_ones_work(gpus: Gpus) -> None:
    side = torch.cuda.Stream()
    for waits in (True, False):
        x = torch.ones(3, device="cuda")
        if waits:
            side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            y = x + 1
        torch.cuda.current_stream().wait_stream(side)
        assert bool(gpus.streams.faults) != waits
    assert (y == 2).all()


def test_memory_must_not_be_freed_while_another_stream_uses_it(gpus: Gpus) -> None:
    side = torch.cuda.Stream()
    for is_recorded in (True, False):
        x = torch.ones(3, device="cuda")
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            x + 1
        if is_recorded:
            x.record_stream(side)
        del x
        assert bool(gpus.streams.faults) != is_recorded
    assert _faults(gpus) == {"memory is freed while another stream may still use it"}


def test_a_graph_repeats_the_work_of_its_gpu(gpus: Gpus) -> None:
    number, total = torch.ones(1, device="cuda"), torch.zeros(1, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        double = number * 2
        total += double
    assert double.isnan().all()
    assert total.item() == 0, "nothing is done yet"
    for value in (3, 4):
        number.fill_(value)
        graph.replay()
        assert double.item() == 2 * value
    assert total.item() == 14
    elsewhere = torch.zeros(1, device="cuda:1")
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        elsewhere += 1
    assert elsewhere.item() == 1, "the work of another GPU is not recorded"


def test_a_graph_cannot_wait_for_the_host(gpus: Gpus) -> None:
    x = torch.ones(1, device="cuda")
    for work in (x.item, x.cpu, lambda: torch.ones(1).to("cuda"), x.nonzero):
        with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
            work()


def test_compiled_work_is_captured_for_all_sizes_and_computed_by_the_cpu(gpus: Gpus) -> None:
    torch._dynamo.reset()
    layer = torch.nn.Linear(4, 4, device="cuda")

    def work(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(layer(x)).to(x.dtype) * 2

    def cannot_be_captured(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x

    compiled = torch.compile(work, fullgraph=True, dynamic=False)
    with torch.inference_mode():
        for size in (2, 3):
            x = torch.randn(size, 4).to("cuda")
            torch._dynamo.mark_dynamic(x, 0)
            assert torch.equal(compiled(x).cpu(), work(x).cpu())
        with pytest.raises(torch._dynamo.exc.Unsupported):
            torch.compile(cannot_be_captured, fullgraph=True)(x)


def test_faults_fail_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(AssertionError, match="allocated on GPU 0"),
        simulated_gpus(monkeypatch, forbidden=frozenset({0})),
    ):
        torch.zeros(1, device="cuda")


KEPT = """
import gc, weakref
import pytest, torch
from tests.simulated_gpu import simulated_gpus

makers = ("empty", "zeros", "tensor", "as_tensor")
with pytest.MonkeyPatch.context() as patch, simulated_gpus(patch):
    owners = {**dict.fromkeys((*makers, "empty_like", "compile"), torch), "to": torch.Tensor}
    replaced = {name: weakref.ref(getattr(owner, name)) for name, owner in owners.items()}
    with torch.device("cuda"):
        x = torch.ones(2)
    torch.compile(lambda x: x.to(torch.float16) * torch.zeros(2, device="cuda"))(x)
gc.collect()
print("kept:", *(name for name, function in replaced.items() if function() is not None))
with torch.device("meta"):
    print("not on the device:", *(name for name in makers if not getattr(torch, name)(1).is_meta))
"""
"""A program that prints which replaced functions torch keeps, and which functions do not follow `torch.device`.

Only a new process shows it, because torch fills its caches of functions once.
"""


def test_torch_keeps_none_of_the_replaced_functions() -> None:
    root = Path(__file__).parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", KEPT], cwd=root, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    assert printed == "kept:\nnot on the device:\n"
