"""Device, dtype and offload are chosen well, and a model gives the same numbers however it is placed."""

import pytest
import torch
from torch import Tensor, nn

from longtake.errors import NotSupported
from longtake.models import memory
from longtake.models.registry import PartName
from longtake.settings import Settings
from tests.models import small

CPU = torch.device("cpu")
GIB = 1024**3


def test_the_device_is_that_of_the_settings_or_the_fastest() -> None:
    assert memory.choose_device(Settings(device="cpu")) == CPU
    assert memory.choose_device(Settings(device="auto")).type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(NotSupported, match=r"LONGTAKE_DEVICE=cuda is not on this machine; it has .*cpu"):
            memory.choose_device(Settings(device="cuda"))


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
    ("requested", "sizes", "free", "offload"),
    [
        ("auto", (26, 10, 3), 80, "none"),
        ("auto", (26, 10, 3), 40, "model"),
        ("auto", (26, 10, 3), 24, "group"),
        ("auto", (13, 10, 3), 24, "model"),
        ("auto", (26, 10, 3), None, "none"),
        ("auto", (0, 0, 0), 1, "none"),
        ("none", (26, 10, 3), 1, "none"),
        ("group", (1, 1, 1), 80, "group"),
    ],
)
def test_the_offload_follows_the_memory(
    requested: str, sizes: tuple[int, int, int], free: int | None, offload: str
) -> None:
    parts = dict(zip(("transformer", "text_encoder", "vae"), (size * GIB for size in sizes), strict=True))
    assert memory.choose_offload(requested, parts, None if free is None else free * GIB) == offload


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


@pytest.mark.parametrize("turn", ["linear", "vae"])
def test_only_one_part_is_on_a_shared_device(turn: str) -> None:
    """The meta device stands for a GPU: a part is there only from its turn on, by `forward` as by `encode`."""
    linear, vae, meta = nn.Linear(2, 2), small.vae(), torch.device("meta")
    memory.share_device([linear, vae], meta)
    if turn == "linear":
        linear(torch.ones(1, 2, device=meta))
    else:
        vae.encode(torch.ones(1, 3, 3, 32, 32, device=meta))  # type: ignore[operator]
    there = [next(part.parameters()).device.type for part in (linear, vae)]
    assert there == (["meta", "cpu"] if turn == "linear" else ["cpu", "meta"])


def test_fp8_halves_the_large_weights_and_stays_near() -> None:
    transformer = small.transformer()
    expected, before = _velocity(transformer), sum(p.nbytes for p in transformer.parameters())
    memory.store_fp8(transformer, torch.float32)
    dtypes = {parameter.dtype for parameter in transformer.parameters()}
    assert dtypes == {torch.float8_e4m3fn, torch.float32}
    assert sum(p.nbytes for p in transformer.parameters()) < before / 2
    got = _velocity(transformer)
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().max() < 0.1 * expected.abs().max()
