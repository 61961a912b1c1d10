"""Adapters have the trained effect in each pass, and leave the transformer unchanged, in both ways of applying them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.oracle import ltxv
from longtake.errors import Cancelled
from longtake.models import fp8, memory
from longtake.models.applying import applied
from longtake.models.budget import Home
from longtake.models.loras import Adapter, LoadedAdapter, Pair, read
from longtake.models.merging import Originals
from longtake.video import Check
from tests.conftest import load_case
from tests.models import small
from tests.models.adapters import MODULE, Trace, applied_in_pass, comfy_lora, low_rank_pair, write_lora
from tests.simulated_gpu import can_simulate, simulated_gpus

OTHER = "transformer_blocks.1.ff.net.2"


def _fused(changes: dict[str, Tensor]) -> nn.Module:
    transformer = small.transformer()
    for module, change in changes.items():
        transformer.get_submodule(module).weight.add_(change)  # type: ignore[operator]
    return transformer


def _close(got: Tensor, expected: Tensor) -> bool:
    return bool((got - expected).abs().max() <= 1e-5 * expected.abs().max())


def test_oracle_lora_ltxv(oracle: Path) -> None:
    case = load_case(oracle, "lora_ltxv")
    transformer = case.model("ltxv_transformer")
    before = Trace(transformer)
    for name, got in ltxv.adapters(case):
        case.check(name, got)
    assert Trace(transformer) == before


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
    with applied_in_pass(transformer, [(read(path), (1.0,))]):
        assert not torch.equal(small.velocity(transformer), small.velocity(small.transformer()))


def test_several_of_different_ranks_add_up(tmp_path: Path) -> None:
    first = read(comfy_lora(tmp_path / "a", rank=2, seed=1))
    second = read(comfy_lora(tmp_path / "b", rank=5, seed=2))
    mixed = Adapter(
        "mixed", {MODULE: Pair(*low_rank_pair(1, seed=3)), OTHER: Pair(*low_rank_pair(3, into=64, seed=4), 0.5)}
    )
    weights: list[LoadedAdapter] = [(first, (0.5,)), (second, (-1.5,)), (mixed, (2.0,)), (first, (0.25,))]
    transformer = small.transformer()
    with applied_in_pass(transformer, weights):
        got = small.velocity(transformer)
    changes: dict[str, Tensor] = {}
    for adapter, (scale,) in weights:
        for module, pair in adapter.pairs.items():
            change = scale * pair.factor * pair.b @ pair.a
            changes[module] = changes.get(module, torch.zeros(())) + change
    assert _close(got, small.velocity(_fused(changes)))


@pytest.mark.parametrize("how", ["float32", "bfloat16", "fp8", "model", "group", "no room"])
def test_the_transformer_is_unchanged_afterwards(tmp_path: Path, how: str) -> None:
    adapter = read(comfy_lora(tmp_path / "l", OTHER, into=64))
    transformer = small.transformer()
    if how == "bfloat16":
        transformer.to(torch.bfloat16)
    if how == "fp8":
        fp8.convert(transformer, "storage", torch.float32)
    if how in ("model", "group"):
        memory.place({"transformer": transformer, "vae": small.vae()}, torch.device("cpu"), how)  # type: ignore[arg-type]
    originals = Originals("none" if how in ("group", "no room") else "device")
    plain = small.velocity(transformer)
    before = Trace(transformer)
    for _ in range(2):
        with applied_in_pass(transformer, [(adapter, (1.0,)), (adapter, (0.5,))], originals=originals):
            adapted = small.velocity(transformer)
            layer = transformer.get_submodule(OTHER)
            weight = layer.weight if isinstance(layer, nn.Linear) else before.state[f"{OTHER}.weight"]
            is_merged = not torch.equal(weight.float(), before.state[f"{OTHER}.weight"].float())
            assert is_merged == (how in ("float32", "bfloat16", "model"))
        assert Trace(transformer) == before
        assert (adapted - plain).abs().max() > 0.01 * plain.abs().max()
    with pytest.raises(KeyboardInterrupt), applied_in_pass(transformer, [(adapter, (1.0,))], originals=originals):
        raise KeyboardInterrupt
    assert Trace(transformer) == before
    assert torch.equal(small.velocity(transformer), plain)


def test_adapters_are_merged_on_the_device_that_parts_share() -> None:
    """The meta device stands for a GPU."""
    transformer, meta = small.transformer(), torch.device("meta")
    memory.share_device({"transformer": transformer, "vae": small.vae()}, meta)
    with applied_in_pass(transformer, [(Adapter("a", {MODULE: Pair(*low_rank_pair())}), (1.0,))]):
        assert transformer.get_submodule(MODULE).weight.device == meta


@pytest.mark.parametrize("pinned", [True, False])
def test_merged_adapters_outlast_the_turns_of_other_parts(pinned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights in host memory are the originals. They are merged again whenever the GPU gets them again."""
    if not can_simulate():
        pytest.skip("GPUs are simulated by torch for CPUs alone")
    adapters = [(Adapter("a", {MODULE: Pair(*low_rank_pair())}), (1.0, -2.0))]
    transformer, vae, expected = small.transformer(), small.vae(), list[Tensor]()
    plain = small.velocity(transformer)
    with applied(transformer, adapters) as set_pass:
        for number in (0, 1):
            set_pass(number)
            expected.append(small.velocity(transformer))
    assert not torch.equal(*expected)
    with simulated_gpus(monkeypatch) as gpus:
        memory.share_device({"transformer": transformer, "vae": vae}, torch.device("cuda"), pinned=pinned)
        before = Trace(transformer)
        originals = Originals("pinned" if pinned else "host")
        originals.use_weights(transformer)
        with applied(transformer, adapters, originals=originals) as set_pass:
            memory.bring(vae)
            assert torch.equal(small.velocity(transformer, "cuda"), plain), "before the first pass"
            for number in (0, 1):
                memory.bring(vae)
                set_pass(number)
                for _ in range(2):
                    assert torch.equal(small.velocity(transformer, "cuda"), expected[number])
                    memory.bring(vae)
            set_pass(0)
        assert torch.equal(small.velocity(transformer, "cuda"), plain), "restored on the GPU"
        memory.bring(vae)
        assert Trace(transformer) == before
        assert [
            one.place for one in gpus.crossings if one.kind == "to host" and not one.place.startswith("elsewhere")
        ] == []


@pytest.mark.parametrize("home", ["device", "pinned"])
def test_weights_are_restored_beside_the_gpus_other_work(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    if not can_simulate():
        pytest.skip("GPUs are simulated by torch for CPUs alone")
    adapters = [(Adapter("a", {MODULE: Pair(*low_rank_pair())}), (1.0,))]
    transformer, originals = small.transformer(), Originals(home)
    plain, before = small.velocity(transformer), Trace(transformer)
    layer = transformer.get_submodule(MODULE)
    with simulated_gpus(monkeypatch) as gpus:
        transformer.to("cuda:1")
        frames = torch.ones(3, device="cuda:1")
        for ends_early in (True, False):
            with applied(transformer, adapters, originals=originals) as set_pass:
                set_pass(0)
                adapted = small.velocity(transformer, "cuda:1")
                gpus.crossings.clear()
                set_pass(None)
                assert not [one for one in gpus.crossings if one.waits]
                frames = frames * 2
                if not ends_early:
                    set_pass(0)
                    assert torch.equal(small.velocity(transformer, "cuda:1"), adapted), "a pass after all"
                    set_pass(None)
            assert torch.equal(small.velocity(transformer, "cuda:1"), plain)
        assert not gpus.streams.faults
        with applied(transformer, adapters, originals=originals) as set_pass:
            set_pass(0)
            set_pass(None)
            _ = layer.weight.sum()  # type: ignore[operator]
        assert gpus.streams.faults, "the weights are restored on another stream"
        gpus.streams.faults.clear()
        transformer.to("cpu")
        assert Trace(transformer) == before


def test_without_loras_nothing_happens() -> None:
    transformer = small.transformer()
    with applied_in_pass(transformer, []):
        assert torch.equal(small.velocity(transformer), small.velocity(small.transformer()))


@pytest.mark.parametrize("home", ["device", "none"])
def test_a_cancel_in_the_middle_of_any_change_restores_the_transformer(tmp_path: Path, home: Home) -> None:
    transformer, originals = small.transformer(), Originals(home)
    adapters = [
        (read(comfy_lora(tmp_path / "a")), (1.0, 0.5)),
        (read(comfy_lora(tmp_path / "b", OTHER, into=64)), (1.0, 0.0)),
    ]
    before, checks = Trace(transformer), list[int]()

    def run(check: Check) -> None:
        with applied(transformer, adapters, check, originals) as set_pass:
            for number in (0, 1, 0):
                set_pass(number)

    run(lambda: checks.append(1))
    assert len(checks) == 3 * 2, "before each layer in each pass"
    for number in range(len(checks)):
        left = iter(range(number))

        def cancel(left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise Cancelled

        with pytest.raises(Cancelled):
            run(cancel)
        assert Trace(transformer) == before


def test_a_lora_whose_layers_all_have_other_ranks_has_its_effect(tmp_path: Path) -> None:
    transformer = small.transformer()
    linear = {name: layer for name, layer in transformer.named_modules() if isinstance(layer, nn.Linear)}
    pairs = {
        name: low_rank_pair(rank, layer.out_features, layer.in_features, seed=rank)
        for rank, (name, layer) in enumerate(linear.items(), start=1)
    }
    tensors = {f"{name}.lora_{side}.weight": pair["AB".index(side)] for name, pair in pairs.items() for side in "AB"}
    adapter = read(write_lora(tmp_path / "l", tensors))
    inputs = {name: torch.randn(3, layer.in_features) for name, layer in linear.items()}
    with applied_in_pass(transformer, [(adapter, (0.5,))]):
        got = {name: transformer.get_submodule(name)(inputs[name]) for name in linear}
    for name, (a, b) in pairs.items():
        assert _close(got[name] - linear[name](inputs[name]), 0.5 * inputs[name] @ a.T @ b.T)


@pytest.mark.parametrize("home", ["device", "host", "none"])
def test_a_pass_has_its_own_scales(tmp_path: Path, home: Home) -> None:
    """Each pass has the bits of a run with its scales alone, however often the pass changes."""
    first, second = read(comfy_lora(tmp_path / "a", seed=1)), read(comfy_lora(tmp_path / "b", seed=2))
    transformer, originals = small.transformer().bfloat16(), Originals(home)
    plain, wanted = small.velocity(transformer), []
    for scales in ((0.5, 0.0), (-1.0, 2.0), (0.0, 0.0)):
        with applied_in_pass(transformer, [(first, (scales[0],)), (second, (scales[1],))], originals=originals):
            wanted.append(small.velocity(transformer))
    assert torch.equal(wanted[2], plain)
    adapters = [(first, (0.5, -1.0, 0.0)), (second, (0.0, 2.0, 0.0))]
    with applied(transformer, adapters, originals=originals) as set_pass:
        assert torch.equal(small.velocity(transformer), plain), "unchanged before the first pass"
        for number in (1, 0, 0, 2, 1, 2, 0):
            set_pass(number)
            assert torch.equal(small.velocity(transformer), wanted[number])
    with applied(transformer, []) as set_pass:
        set_pass(1)
        assert torch.equal(small.velocity(transformer), plain)


@settings(max_examples=20, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 24), min_size=1, max_size=3),
    scales=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_both_ways_agree_within_the_rounding_of_the_dtype(
    ranks: list[int], scales: list[float], dtype: torch.dtype
) -> None:
    transformer = small.transformer()
    pairs = [Pair(*low_rank_pair(rank, seed=rank), 0.05) for rank in ranks]
    adapters = [(Adapter("a", {MODULE: pair}), (scale,)) for pair, scale in zip(pairs, scales, strict=False)]
    change = sum(scale * pair.factor * pair.b @ pair.a for (_, (scale,)), pair in zip(adapters, pairs, strict=True))
    assert isinstance(change, Tensor)
    exact = small.velocity(_fused({MODULE: change}))
    transformer.to(dtype)
    errors = []
    for home in ("device", "none"):
        with applied_in_pass(transformer, adapters, originals=Originals(home)):
            errors.append((small.velocity(transformer).float() - exact).abs().max())
    assert max(errors) <= {torch.float32: 1e-5, torch.bfloat16: 0.05}[dtype] * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn])
def test_loras_stored_in_few_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    a, b = (tensor.to(dtype) for tensor in low_rank_pair())
    tensors = {f"transformer.{MODULE}.lora_A.weight": a, f"transformer.{MODULE}.lora_B.weight": b}
    adapter = read(write_lora(tmp_path / "l", tensors))
    transformer = small.transformer()
    with applied_in_pass(transformer, [(adapter, (1.0,))]):
        got = small.velocity(transformer)
    assert _close(got, small.velocity(_fused({MODULE: b.float() @ a.float()})))


@pytest.mark.parametrize("how", ["float32", "bfloat16", "fp8", "no room"])
def test_copies_on_other_devices_have_the_same_adapters(tmp_path: Path, how: str) -> None:
    adapters = [(read(comfy_lora(tmp_path / "l", OTHER, into=64)), (1.0, 0.5))]
    all_three = [small.transformer() for _ in range(3)]
    for transformer in all_three:
        if how == "bfloat16":
            transformer.to(torch.bfloat16)
        if how == "fp8":
            fp8.convert(transformer, "storage", torch.float32)
    originals = Originals("none" if how == "no room" else "device")
    first, *copies = all_three
    before = [Trace(transformer) for transformer in all_three]
    plain, found = small.velocity(first), list[Tensor]()
    with applied(first, adapters, originals=originals, replicas=copies) as set_pass:
        for number in (0, 1):
            set_pass(number)
            found.append(small.velocity(first))
            assert all(torch.equal(small.velocity(copy), found[-1]) for copy in copies)
    assert not torch.equal(*found)
    assert [Trace(transformer) for transformer in all_three] == before

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), applied(first, adapters, stop, originals, replicas=copies) as set_pass:
        set_pass(1)
    assert [Trace(transformer) for transformer in all_three] == before
    assert all(torch.equal(small.velocity(copy), plain) for copy in copies)


def test_a_copy_on_another_gpu_follows_a_transformer_that_shares_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter is off in the second pass, which begins after the VAE has used the first GPU."""
    if not can_simulate():
        pytest.skip("GPUs are simulated by torch for CPUs alone")
    adapters = [(Adapter("a", {MODULE: Pair(*low_rank_pair())}), (1.0, 0.0))]
    transformer, copy, vae = small.transformer(), small.transformer(), small.vae()
    before, plain = Trace(copy), small.velocity(copy)
    with simulated_gpus(monkeypatch) as gpus:
        memory.share_device({"transformer": transformer, "vae": vae}, torch.device("cuda:0"), pinned=True)
        copy.to("cuda:1")
        originals = Originals("pinned")
        originals.use_weights(transformer)
        with applied(transformer, adapters, originals=originals, replicas=[copy]) as set_pass:
            for number, has_other_weights in ((0, True), (0, False), (1, True), (1, False), (0, True)):
                before_pass = len(gpus.crossings)
                set_pass(number)
                found = small.velocity(transformer, "cuda:0")
                between = sum(one.kind == "between devices" for one in gpus.crossings[before_pass:])
                assert between == has_other_weights, "the copy's one weight is copied only if it has other bits"
                assert torch.equal(found, plain) == (number == 1)
                assert torch.equal(small.velocity(copy, "cuda:1"), found)
                memory.bring(vae)
        assert torch.equal(small.velocity(copy, "cuda:1"), plain)
        assert not gpus.streams.faults
        copy.to("cpu")
    assert Trace(copy) == before
