"""Device, dtype and offload are chosen well, and a model gives the same numbers however it is placed."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor, nn

from longtake.errors import NotSupported
from longtake.host_memory import HostMemory
from longtake.models import memory
from longtake.models.registry import PartName
from longtake.sampling import tiling
from longtake.settings import Settings, settings
from tests.models import small
from tests.simulated_gpu import Gpus, can_simulate, simulated_gpus

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")
GIB = 1024**3


def test_the_device_is_that_of_the_settings_or_the_fastest() -> None:
    assert memory.choose_device(Settings(device="cpu")) == CPU
    assert memory.choose_device(Settings(device="auto")).type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(NotSupported, match=r"The device cuda is not on this machine; it has .*cpu"):
            memory.choose_device(Settings(device="cuda"))


def test_several_devices_are_gpus_of_one_kind_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory.choose_devices(Settings(device="cpu+cpu")) == (CPU, CPU)
    if not can_simulate():
        pytest.skip("GPUs are simulated by torch for CPUs alone")
    with simulated_gpus(monkeypatch):
        both = Settings(device="cuda:1+cuda:0")
        assert memory.choose_devices(both) == (GPU, torch.device("cuda:0"))
        assert memory.choose_device(both) == GPU
        with pytest.raises(NotSupported, match=r" cuda:0\+cuda:2 is not on this machine; .*; cuda:2 is not there"):
            memory.choose_devices(Settings(device="cuda:0+cuda:2"))
        with monkeypatch.context() as patched:
            patched.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
            with pytest.raises(NotSupported, match=r"of different kinds: cuda:1 is Card 1, cuda:0 is Card 0\."):
                memory.choose_devices(both)


@pytest.mark.parametrize(
    ("requested", "device", "embedded", "dtype"),
    [
        ("auto", "cpu", False, torch.float32),
        ("auto", "mps", False, torch.bfloat16),
        ("auto", "mps", True, torch.float32),
        ("bfloat16", "cpu", True, torch.bfloat16),
        ("float16", "cpu", False, torch.float16),
    ],
)
def test_the_dtype(requested: str, device: str, embedded: bool, dtype: torch.dtype) -> None:
    settings = Settings(dtype=requested)  # type: ignore[arg-type]
    assert memory.choose_dtype(settings, torch.device(device), embedded=embedded) == dtype


@pytest.mark.parametrize(
    ("part", "beside", "dtype"),
    [
        ("text_encoder", torch.float16, torch.float32),
        ("connectors", torch.float16, torch.float32),
        ("text_encoder", torch.bfloat16, torch.bfloat16),
        ("vocoder", torch.bfloat16, torch.float32),
        ("audio_vae", torch.float16, torch.float32),
        ("vae", torch.float16, torch.float16),
    ],
)
def test_parts_that_need_more_precision_get_it(part: PartName, beside: torch.dtype, dtype: torch.dtype) -> None:
    assert memory.part_dtype(part, beside) == dtype


@pytest.mark.parametrize(
    ("requested", "sizes", "total", "free", "offload"),
    [
        ("auto", (26, 10, 3), 80, 78, "none"),
        ("auto", (26, 10, 3), 40, 39, "model"),
        ("auto", (26, 10, 3), 80, 40, "model"),
        ("auto", (26, 10, 3), 80, 10, "model"),
        ("auto", (26, 10, 3), 24, 23, "group"),
        ("auto", (13, 10, 3), 24, 23, "model"),
        ("auto", (26, 10, 3), None, None, "none"),
        ("auto", (0, 0, 0), 1, 1, "none"),
        ("none", (26, 10, 3), 1, 1, "none"),
        ("group", (1, 1, 1), 80, 80, "group"),
    ],
)
def test_the_offload_follows_the_memory(
    requested: str, sizes: tuple[int, int, int], total: int | None, free: int | None, offload: str
) -> None:
    parts = dict(zip(("transformer", "text_encoder", "vae"), (size * GIB for size in sizes), strict=True))
    in_bytes = [None if value is None else value * GIB for value in (total, free)]
    assert memory.choose_offload(requested, parts, *in_bytes) == offload


def test_the_slots_of_a_server_share_the_hosts_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a process with weights of its own."""
    monkeypatch.setattr(memory, "host_memory", lambda: HostMemory(10 * GIB, 64 * GIB))
    found = [memory.memories(CPU, slots).host for slots in ((), ("auto",), ("cuda:0", "cuda:1@ltx"))]
    assert found == [64 * GIB, 64 * GIB, 32 * GIB]


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_the_slots_on_a_gpu_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else uses the GPU decides nothing: sizes of tiles and batches, and whether weights are streamed, follow from
    the share."""
    vae = SimpleNamespace(config=SimpleNamespace(block_out_channels=[128], patch_size=4), dtype=torch.bfloat16)
    part = {"transformer": 30 * GIB}
    with simulated_gpus(monkeypatch, total=48 * GIB) as gpus:
        found = []
        for slots in (("cuda:0", "cuda:1"), ("cuda:1", "cuda:1"), ("cuda:1", "cuda:1", "cuda:0+cuda:1")):
            with memory.sharing_gpu(settings(device="cuda:1", slots=slots)):
                total, free = memory.device_bytes(GPU), memory.free_bytes(GPU)
                assert total == free == memory.memories(GPU, slots).device
                tiles = tiling.choose(vae, (1280, 704), 33, GPU)
                found.append((total, memory.choose_offload("auto", part, total, free), tiles is None))
        assert found == [(48 * GIB, "none", True), (24 * GIB, "group", True), (16 * GIB, "group", False)]
        gpus.used = 40 * GIB
        with memory.sharing_gpu(settings(device="cuda:1", slots=("cuda:1", "cuda:1"))):
            assert (memory.device_bytes(GPU), memory.free_bytes(GPU)) == (24 * GIB, 8 * GIB)
        assert memory.device_bytes(GPU) == 48 * GIB, "outside, nothing is shared"


def _velocity(transformer: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(0)
    tokens, prompt = torch.randn(1, 6, 6).to(dtype), torch.randn(1, 4, 12).to(dtype)
    mask, coords = torch.ones(1, 4).to(dtype), torch.rand(1, 3, 6)
    velocity = transformer(tokens, prompt, torch.tensor([500.0]), mask, video_coords=coords, return_dict=False)[0]
    assert isinstance(velocity, Tensor)
    return velocity


@pytest.mark.parametrize("offload", ["none", "model", "group"])
def test_a_placed_model_computes_the_same(offload: memory.Offload) -> None:
    transformer, vae = small.transformer(), small.vae()
    pixels = torch.randn(1, 3, 3, 32, 32)
    expected = (_velocity(transformer), vae.encode(pixels).latent_dist.mode())  # type: ignore[operator]
    memory.place({"transformer": transformer, "vae": vae}, CPU, offload)
    for _ in range(2):
        assert torch.equal(_velocity(transformer), expected[0])
        assert torch.equal(vae.encode(pixels).latent_dist.mode(), expected[1])  # type: ignore[operator]


@pytest.mark.parametrize("is_pinned", [True, False])
def test_weights_are_streamed_ahead_from_pinned_memory_if_there_is_room(
    monkeypatch: pytest.MonkeyPatch, is_pinned: bool
) -> None:
    """Without a GPU this only checks how diffusers' streaming is called, and that all weights are pinned before."""
    calls: list[tuple[nn.Module, dict[str, Any]]] = []
    pinned: list[Tensor] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor.clone()

    def apply_group_offloading(part: nn.Module, **options: Any) -> None:
        calls.append((part, options))

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(diffusers.hooks, "apply_group_offloading", apply_group_offloading)
    transformer, encoder, vae = small.transformer(), nn.Linear(2, 2), small.vae()
    before = [tensor for part in (transformer, encoder, vae) for tensor in (*part.parameters(), *part.buffers())]
    parts: dict[PartName, nn.Module] = {"transformer": transformer, "text_encoder": encoder, "vae": vae}
    memory.place(parts, torch.device("cuda"), "group", pinned=is_pinned)
    assert len(pinned) == (len(before) if is_pinned else 0)
    assert [part for part, _ in calls] == [transformer, encoder]
    assert [options["offload_type"] for _, options in calls] == ["block_level", "leaf_level"]
    for _, options in calls:
        assert options["use_stream"]
        assert not options["record_stream"]
        assert options["low_cpu_mem_usage"] == (not is_pinned)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    if not can_simulate():
        pytest.skip("GPUs are simulated by torch for CPUs alone")
    with simulated_gpus(monkeypatch) as made:
        yield made


def test_a_part_is_brought_to_the_shared_device_before_it_runs(gpus: Gpus) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    memory.share_device({"transformer": first, "vae": second}, GPU)
    memory.bring(first)
    assert (first.weight.device, second.weight.device) == (GPU, CPU)
    alone = nn.Linear(2, 2)
    memory.bring(alone)
    assert alone.weight.device == CPU


@pytest.mark.parametrize("pinned", [False, True])
def test_only_one_part_is_on_a_shared_device(gpus: Gpus, pinned: bool) -> None:
    """A part is there only from its turn on, by `forward` as by `encode`. No weights are copied back."""
    linear, vae, x = nn.Linear(2, 2), small.vae(), torch.ones(1, 3, 3, 32, 32)
    latent, result = vae.encode(x).latent_dist.mean, linear(x[0, 0, 0, :1, :2])  # type: ignore[operator]
    memory.share_device({"transformer": linear, "vae": vae}, GPU, pinned=pinned)
    for _ in range(2):
        assert torch.equal(linear(torch.ones(1, 2, device=GPU)).cpu(), result)
        assert [next(part.parameters()).device for part in (linear, vae)] == [GPU, CPU]
        gpus.crossings.clear()
        assert torch.equal(vae.encode(x.to(GPU)).latent_dist.mean.cpu(), latent)  # type: ignore[operator]
        assert [next(part.parameters()).device for part in (linear, vae)] == [CPU, GPU]
        assert sum(crossing.kind == "to host" for crossing in gpus.crossings) == 1, "the latent"
        waiting = [crossing for crossing in gpus.crossings if crossing.kind == "to device" and crossing.waits]
        assert len(waiting) == 1, "the pixels"


def test_predictions_are_made_together_as_far_as_memory_allows() -> None:
    transformer: Any = small.transformer()
    assert memory.predictions_at_once(transformer, 100, CPU) > 4
    assert memory.predictions_at_once(transformer, 10**9, CPU) == 1
    token = memory.low_memory.set(True)
    assert memory.predictions_at_once(transformer, 100, CPU) == 1
    memory.low_memory.reset(token)
