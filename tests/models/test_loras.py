"""LoRAs of both published styles have the trained effect, fit strictly, and leave the transformer unchanged."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from longtake.errors import BadCheckpoint, Cancelled, InvalidRequest
from longtake.models import loras, memory
from longtake.models.lora_downloads import mark_used
from longtake.models.lora_files import LoraFile, LoraSources
from longtake.models.lora_header import MAX_HEADER_BYTES, LoraHeader, read_lora_header
from longtake.models.loras import Adapter, LoadedAdapter, LoraCache, Pair, applied, read
from longtake.models.registry import card
from longtake.settings import Settings
from longtake.video import Check
from tests.conftest import load_case
from tests.models import small
from tests.models.adapters import MODULE, comfy_lora, load_adapters, low_rank_pair, planned_lora, write_lora

OTHER = "transformer_blocks.1.ff.net.2"


def _fused(changes: dict[str, Tensor]) -> nn.Module:
    transformer = small.transformer()
    for module, change in changes.items():
        transformer.get_submodule(module).weight.add_(change)  # type: ignore[operator]
    return transformer


def _close(got: Tensor, expected: Tensor) -> bool:
    return bool((got - expected).abs().max() <= 1e-5 * expected.abs().max())


class Trace:
    """Everything of a model that a LoRA might change."""

    def __init__(self, model: nn.Module) -> None:
        self.state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self.modules = {name: id(module) for name, module in model.named_modules()}
        self.flags = {name: (p.requires_grad, p.dtype) for name, p in model.named_parameters()}
        self.attributes = set(vars(model))

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, Trace)
        facts = (self.modules, self.flags, self.attributes) == (other.modules, other.flags, other.attributes)
        bits = {name: tensor.view(torch.uint8) for name, tensor in self.state.items() if tensor.ndim}
        return facts and small.same(bits, {n: t.view(torch.uint8) for n, t in other.state.items() if t.ndim})


def test_oracle_lora_ltxv(oracle: Path) -> None:
    case = load_case(oracle, "lora_ltxv")
    transformer = case.model("ltxv_transformer").requires_grad_(False)
    before, given = Trace(transformer), case.given
    for run, files in case.params["runs"].items():
        adapters: list[LoadedAdapter] = [(read(case.root / case.name / file), (scale,)) for file, scale in files]
        with applied(transformer, adapters):
            got = transformer(
                given["tokens"],
                given["prompt"],
                torch.tensor([case.params["timestep"] * 1000]),
                given["prompt.mask"],
                video_coords=given["coords"],
                return_dict=False,
            )[0]
        case.check(run, got)
        assert Trace(transformer) == before


def test_the_published_names_are_converted_as_the_oracle_says(oracle: Path) -> None:
    case = load_case(oracle, "lora_ltxv")
    for file, names in case.document["converted_keys"].items():
        expected = {re.sub(r"^transformer\.(.*)\.lora_[AB]\.weight$", r"\1", name) for name in names.values()}
        assert read(case.root / case.name / file).pairs.keys() == expected


def test_published_module_names_of_the_reference(tmp_path: Path) -> None:
    a, b = low_rank_pair(into=6)
    path = write_lora(
        tmp_path / "l",
        {
            "diffusion_model.patchify_proj.lora_A.weight": a,
            "diffusion_model.patchify_proj.lora_B.weight": b,
            "diffusion_model.adaln_single.linear.lora_A.weight": torch.randn(1, 16),
            "diffusion_model.adaln_single.linear.lora_B.weight": torch.randn(96, 1),
        },
    )
    assert read(path).pairs.keys() == {"proj_in", "time_embed.linear"}
    transformer = small.transformer()
    with applied(transformer, [(read(path), (1.0,))]):
        assert not torch.equal(small.velocity(transformer), small.velocity(small.transformer()))


def test_the_alpha_of_the_metadata_counts(tmp_path: Path) -> None:
    a, b = low_rank_pair(rank=4)
    tensors = {f"transformer.{MODULE}.lora_A.weight": a, f"transformer.{MODULE}.lora_B.weight": b}
    stored: Any = {"transformer.r": 4, "transformer.lora_alpha": 8}
    adapter = read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata=stored))
    assert adapter.pairs[MODULE].factor == 2
    stored |= {"transformer.alpha_pattern": {"attn1.to_k": 3, "n1.to_q": 2, "attn1.to_q": 1}}
    adapter = read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata=stored))
    assert adapter.pairs[MODULE].factor == 1 / 4
    with pytest.raises(BadCheckpoint, match=r"has \d+ characters of metadata about its LoRA; the limit is 1048576"):
        read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata={"x": "y" * 2**20}))
    for stored in ({"use_dora": True}, {"use_rslora": True}, {"lora_alpha": "x"}, {"alpha_pattern": 3}, [1]):
        with pytest.raises(BadCheckpoint):
            read(write_lora(tmp_path / "l", tensors, lora_adapter_metadata=stored))


def test_several_of_different_ranks_add_up(tmp_path: Path) -> None:
    first = read(comfy_lora(tmp_path / "a", rank=2, seed=1))
    second = read(comfy_lora(tmp_path / "b", rank=5, seed=2))
    mixed = Adapter(
        "mixed", {MODULE: Pair(*low_rank_pair(1, seed=3)), OTHER: Pair(*low_rank_pair(3, into=64, seed=4), 0.5)}
    )
    weights: list[LoadedAdapter] = [(first, (0.5,)), (second, (-1.5,)), (mixed, (2.0,)), (first, (0.25,))]
    transformer = small.transformer()
    with applied(transformer, weights):
        got = small.velocity(transformer)
    changes: dict[str, Tensor] = {}
    for adapter, (scale,) in weights:
        for module, pair in adapter.pairs.items():
            change = scale * pair.factor * pair.b @ pair.a
            changes[module] = changes.get(module, torch.zeros(())) + change
    assert _close(got, small.velocity(_fused(changes)))


@pytest.mark.parametrize("how", ["float32", "bfloat16", "fp8", "model", "group"])
def test_the_transformer_is_unchanged_afterwards(tmp_path: Path, how: str) -> None:
    adapter = read(comfy_lora(tmp_path / "l", OTHER, into=64))
    transformer = small.transformer()
    if how == "bfloat16":
        transformer.to(torch.bfloat16)
    if how == "fp8":
        memory.store_fp8(transformer, torch.float32)
    if how in ("model", "group"):
        memory.place({"transformer": transformer, "vae": small.vae()}, torch.device("cpu"), how)  # type: ignore[arg-type]
    plain = small.velocity(transformer)
    before = Trace(transformer)
    for _ in range(2):
        with applied(transformer, [(adapter, (1.0,)), (adapter, (0.5,))]):
            adapted = small.velocity(transformer)
            assert transformer.get_submodule(OTHER).lora_A["lora_0"].weight.dtype == adapted.dtype  # type: ignore[index, union-attr]
        assert Trace(transformer) == before
        assert (adapted - plain).abs().max() > 0.01 * plain.abs().max()
    with pytest.raises(KeyboardInterrupt), applied(transformer, [(adapter, (1.0,))]):
        raise KeyboardInterrupt
    assert Trace(transformer) == before
    assert torch.equal(small.velocity(transformer), plain)


def test_the_transformer_is_unchanged_after_a_failed_injection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = read(comfy_lora(tmp_path / "l"))
    transformer = small.transformer()
    before = Trace(transformer)

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(transformer), "set_adapters", fail)
    with pytest.raises(RuntimeError), applied(transformer, [(adapter, (1.0,))]):
        pass
    assert Trace(transformer) == before


def test_without_loras_nothing_happens() -> None:
    transformer = small.transformer()
    with applied(transformer, []):
        assert torch.equal(small.velocity(transformer), small.velocity(small.transformer()))


@pytest.mark.parametrize(
    ("module", "shape", "reason"),
    [
        ("transformer_blocks.9.attn1.to_q", (16, 16), r"lacks 1 module: transformer_blocks\.9\.attn1\.to_q"),
        ("transformer_blocks.0.norm1", (16, 16), r"lacks 1 module: transformer_blocks\.0\.norm1"),
        (MODULE, (16, 12), r"to_q is 16 x 16, its change 16 x 12"),
        (MODULE, (8, 16), r"to_q is 16 x 16, its change 8 x 16"),
    ],
)
def test_modules_that_do_not_fit_the_model_are_named(module: str, shape: tuple[int, int], reason: str) -> None:
    fitting = Adapter("good", {MODULE: Pair(*low_rank_pair())})
    adapter = Adapter("bad", {module: Pair(*low_rank_pair(out=shape[0], into=shape[1]))})
    transformer = small.transformer()
    before = Trace(transformer)
    with (
        pytest.raises(InvalidRequest, match=reason) as raised,
        applied(transformer, [(fitting, (1.0,)), (adapter, (1.0,))]),
    ):
        raise AssertionError("must not be entered")
    assert (raised.value.loc, raised.value.value) == (("body", "loras", 1, "path"), "bad")
    assert Trace(transformer) == before


A, B = f"diffusion_model.{MODULE}.lora_A.weight", f"diffusion_model.{MODULE}.lora_B.weight"
ALPHA = f"diffusion_model.{MODULE}.alpha"


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({A: torch.ones(2, 16)}, rf"one half of 1 pair: {re.escape(MODULE)}"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 3)}, r"A \[2, 16\] and B \[16, 3\] .* do not multiply"),
        ({A: torch.ones(2, 16, 3), B: torch.ones(16, 2)}, "do not multiply"),
        ({A: torch.ones(0, 16), B: torch.ones(16, 0)}, "do not multiply"),
        ({A: torch.full((2, 16), torch.nan), B: torch.ones(16, 2)}, "not finite"),
        ({A: torch.ones(2, 16, dtype=torch.int64), B: torch.ones(16, 2)}, "dtype I64; it must be a float"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), "diffusion_model.x.diff": torch.ones(1)}, r"x\.diff"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), "text_encoder.x.lora_A.weight": torch.ones(1)}, "text_encoder"),
        ({A: torch.ones(2, 16), A.replace("lora_A", "lora_down"): torch.ones(2, 16)}, "the same one"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), ALPHA: torch.ones(2)}, r"alpha of shape \[2\]; it must be one"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2), ALPHA: torch.tensor(True)}, "dtype BOOL"),
        ({"model.diffusion_model.proj_in.weight": torch.ones(1)}, "a model's own weights, not a LoRA"),
        ({}, "no pair"),
    ],
)
def test_files_that_are_no_lora_are_refused(tmp_path: Path, tensors: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(BadCheckpoint, match=reason):
        read(write_lora(tmp_path / "l", tensors))


def test_an_alpha_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    tensors = {A: torch.ones(2, 16), B: torch.ones(16, 2), ALPHA: torch.tensor(torch.inf)}
    with pytest.raises(BadCheckpoint, match="not finite"):
        read(write_lora(tmp_path / "l", tensors))


def test_a_header_far_larger_than_any_lora_has_is_refused(tmp_path: Path) -> None:
    small.raw_file(tmp_path / "l", b"{" + b" " * (MAX_HEADER_BYTES + 8) + b"}")
    with pytest.raises(BadCheckpoint, match="the limit is 8388608"):
        read(tmp_path / "l")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_loras_stored_in_few_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    a, b = (tensor.to(dtype) for tensor in low_rank_pair())
    adapter = read(write_lora(tmp_path / "l", {A: a, B: b}))
    transformer = small.transformer()
    with applied(transformer, [(adapter, (1.0,))]):
        got = small.velocity(transformer)
    assert _close(got, small.velocity(_fused({MODULE: b.float() @ a.float()})))


def test_a_pickled_lora_is_refused(tmp_path: Path) -> None:
    torch.save({A: torch.ones(2, 16)}, tmp_path / "l.safetensors")
    with pytest.raises(BadCheckpoint, match="pickle"):
        read(tmp_path / "l.safetensors")


def test_a_repeated_lora_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []

    def counted(path: Path, header: LoraHeader, check: Check) -> Adapter:
        reads.append(path)
        return read(path, header, check)

    monkeypatch.setattr(loras, "read", counted)
    paths = [comfy_lora(tmp_path / name, seed=seed) for seed, name in enumerate("abc")]
    headers = [read_lora_header(path) for path in paths]
    cache = LoraCache(2 * read(paths[0]).num_bytes)
    for index in (0, 0, 1, 0, 2, 0):
        assert mark_used(paths[index])
        cache.read(LoraFile(paths[index], "l"), headers[index])
    assert reads == paths
    cache.read(LoraFile(paths[1], "l"), headers[1])
    assert reads == [*paths, paths[1]]
    before = load_file(paths[1])
    for changed in ({name: tensor[:1] for name, tensor in before.items()}, {"x": before[A]}):
        save_file(changed, paths[1])
        with pytest.raises(BadCheckpoint, match="b was changed while the request ran"):
            cache.read(LoraFile(paths[1], "l"), headers[1])


def test_a_file_is_read_in_pieces_and_the_reading_can_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loras, "PIECE_VALUES", 7)
    path, checks = comfy_lora(tmp_path / "l", rank=5), list[int]()
    read(path, None, lambda: checks.append(1))
    assert len(checks) == 2 * -(-5 * 16 // 7)
    assert torch.equal(read(path).pairs[MODULE].a, low_rank_pair(5)[0])
    assert torch.equal(read(path).pairs[MODULE].b, low_rank_pair(5)[1])
    a, b = low_rank_pair(5)
    b[-1, -1] = torch.inf
    write_lora(path, {f"diffusion_model.{MODULE}.lora_A.weight": a, f"diffusion_model.{MODULE}.lora_B.weight": b})
    with pytest.raises(BadCheckpoint, match="not finite"):
        read(path)

    def cancel() -> None:
        raise Cancelled

    settings, cache = Settings(loras_dir=tmp_path), LoraCache(10**6)
    with pytest.raises(Cancelled):
        load_adapters([planned_lora("l")], card("ltxv-tiny"), settings, cache, LoraSources(check=cancel))
    transformer = small.transformer()
    before = Trace(transformer)
    with pytest.raises(Cancelled), applied(transformer, [(read(comfy_lora(tmp_path / "l")), (1.0,))], cancel):
        pass
    assert Trace(transformer) == before


def test_attaching_a_lora_hears_a_cancel_at_every_step(tmp_path: Path) -> None:
    transformer, adapter = small.transformer(), read(comfy_lora(tmp_path / "l"))
    before, checks = Trace(transformer), list[int]()
    with applied(transformer, [(adapter, (1.0,))], lambda: checks.append(1)):
        pass
    assert len(checks) > 3, "also while PEFT wraps the layers"
    for number in range(len(checks)):
        left = iter(range(number))

        def cancel(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Cancelled

        with pytest.raises(Cancelled), applied(transformer, [(adapter, (1.0,))], cancel):
            pass
        assert Trace(transformer) == before


def test_a_lora_whose_layers_all_have_other_ranks_has_its_effect(tmp_path: Path) -> None:
    """With a pattern for each rank, PEFT compared each layer with each pattern: minutes for the largest model."""
    transformer = small.transformer()
    linear = {name: layer for name, layer in transformer.named_modules() if isinstance(layer, nn.Linear)}
    pairs = {
        name: low_rank_pair(rank, layer.out_features, layer.in_features, seed=rank)
        for rank, (name, layer) in enumerate(linear.items(), start=1)
    }
    tensors = {f"{name}.lora_{side}.weight": pair["AB".index(side)] for name, pair in pairs.items() for side in "AB"}
    adapter = read(write_lora(tmp_path / "l", tensors))
    inputs = {name: torch.randn(3, layer.in_features) for name, layer in linear.items()}
    with applied(transformer, [(adapter, (0.5,))]):
        got = {name: transformer.get_submodule(name)(inputs[name]) for name in linear}
    for name, (a, b) in pairs.items():
        assert _close(got[name] - linear[name](inputs[name]), 0.5 * inputs[name] @ a.T @ b.T)


def test_a_pass_has_its_own_scales(tmp_path: Path) -> None:
    """Each pass has the result of a run with its scales alone, however often the pass changes."""
    first, second = read(comfy_lora(tmp_path / "a", seed=1)), read(comfy_lora(tmp_path / "b", seed=2))
    transformer, wanted = small.transformer(), []
    for scales in ((0.5, 0.0), (-1.0, 2.0)):
        with applied(transformer, [(first, (scales[0],)), (second, (scales[1],))]):
            wanted.append(small.velocity(transformer))
    with applied(transformer, [(first, (0.5, -1.0)), (second, (0.0, 2.0))]) as set_pass:
        assert torch.equal(small.velocity(transformer), wanted[0]), "at first those of pass 0"
        for number in (1, 0, 1):
            set_pass(number)
            assert torch.equal(small.velocity(transformer), wanted[number])
    with applied(transformer, []) as set_pass:
        set_pass(1)
        assert torch.equal(small.velocity(transformer), small.velocity(small.transformer()))
