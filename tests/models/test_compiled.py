"""Blocks are compiled once for all blocks and sizes, give the same numbers, and follow changed weights and adapters."""

import importlib.util
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from torch import Tensor, nn
from torch._dynamo.utils import counters

from longtake.errors import NotSupported
from longtake.families.ltx2.model import BLOCK_FORWARD as AUDIOVISUAL
from longtake.families.ltx2.tracks import Track
from longtake.families.ltxv.guidance import value_attention
from longtake.families.ltxv.model import BLOCK_FORWARD as VIDEO
from longtake.models import compiled, memory, video_transformer
from longtake.models.audiovisual import PositionedTracks, Prediction, Stream, attach, velocities
from longtake.models.compiled import BlockForward, CompiledBlocks, decide, obstacle, warm_up
from longtake.models.fp8 import convert
from longtake.models.loras import Adapter, Pair
from longtake.models.merging import Originals
from longtake.models.video_transformer import TokenLevels
from longtake.settings import Settings
from tests.models import small, small_ltx2
from tests.models.adapters import MODULE, applied_in_pass, low_rank_pair
from tests.models.test_audiovisual import tracks, words
from tests.models.test_fp8 import WIDE

CPU, CUDA = torch.device("cpu"), torch.device("cuda")

needs_compiler = pytest.mark.skipif(obstacle(CPU) is not None, reason="there is no C++ compiler")


@pytest.fixture
def num_graphs() -> Iterator[Callable[[], int]]:
    torch._dynamo.reset()
    counters.clear()
    yield lambda: counters["stats"]["unique_graphs"]
    torch._dynamo.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are traced into graphs, but the graphs are run as they are, because compiling them takes long."""
    real = torch.compile

    def only_traced(run: Callable[..., Any], **options: Any) -> Any:
        return real(run, fullgraph=options["fullgraph"], dynamic=options["dynamic"], backend="eager")

    monkeypatch.setattr(torch, "compile", only_traced)


def _transformer() -> nn.Module:
    transformer = small.transformer()
    video_transformer.attach(transformer)
    return transformer


def _velocity(transformer: nn.Module, num_tokens: int = 6, num_levels: int = 2) -> Tensor:
    torch.manual_seed(0)
    tokens, prompt, coords = torch.randn(1, num_tokens, 6), torch.randn(1, 4, 12), torch.rand(1, 3, num_tokens)
    levels = TokenLevels(torch.linspace(0, 0.5, num_levels), torch.arange(num_tokens) % num_levels)
    with torch.inference_mode():
        out: Tensor = transformer(tokens, levels, coords, prompt, torch.ones(1, 4))
    return out


def _blocks(transformer: nn.Module, forward: BlockForward = VIDEO) -> nn.Module:
    CompiledBlocks(forward).attach(transformer)
    return transformer


@pytest.mark.usefixtures("traced")
def test_all_blocks_and_sizes_share_one_graph(num_graphs: Callable[[], int]) -> None:
    model, plain = _blocks(_transformer()), _transformer()
    for num_tokens, num_levels in ((6, 2), (20, 3), (9, 1)):
        assert torch.equal(_velocity(model, num_tokens, num_levels), _velocity(plain, num_tokens, num_levels))
    assert num_graphs() == 1
    for blocks in ((0,), (1,), (0, 1)):
        with value_attention(model, blocks), value_attention(plain, blocks):
            assert torch.equal(_velocity(model), _velocity(plain))
    assert num_graphs() == 2, "one more for disturbed attention, in whichever block"
    assert torch.equal(_velocity(model), _velocity(plain))
    for rank in (2, 5):
        adapter = Adapter("a", {MODULE: Pair(*low_rank_pair(rank))})
        adapted = []
        for transformer in (model, plain):
            with applied_in_pass(transformer, [(adapter, (1.0,))], originals=Originals("none")):
                adapted.append(_velocity(transformer))
        assert torch.equal(*adapted)
        assert not torch.equal(adapted[0], _velocity(plain))
    assert num_graphs() == 3, "one more for adapters beside the weights, of whichever rank"


@pytest.mark.usefixtures("traced")
def test_layers_in_8_bits_are_part_of_the_graph(num_graphs: Callable[[], int]) -> None:
    model, plain = (small.seeded(LTXVideoTransformer3DModel, WIDE) for _ in range(2))
    for transformer in (model, plain):
        video_transformer.attach(transformer)
        convert(transformer, "products", torch.float32)
    _blocks(model)
    for num_tokens in (6, 9):
        assert torch.equal(_velocity(model, num_tokens), _velocity(plain, num_tokens))
    assert num_graphs() == 2, "one for the two blocks in the middle, one for the first and the last"


@pytest.mark.usefixtures("traced")
def test_blocks_with_sound_share_one_graph(num_graphs: Callable[[], int]) -> None:
    model, plain = small_ltx2.model("transformer"), small_ltx2.model("transformer")
    for transformer in (model, plain):
        attach(transformer)
    _blocks(model, AUDIOVISUAL)

    def evaluated(transformer: nn.Module, of: dict[Stream, Track]) -> dict[Stream, Tensor]:
        tokens = {stream: track.clean for stream, track in of.items()}
        positioned = PositionedTracks.of(transformer, of)
        with torch.inference_mode():
            return velocities(transformer, positioned, tokens, 0.7, [Prediction(words(transformer, 1))], [])

    for frames in (3, 5):
        of = tracks(plain, frames)
        free = {stream: Track(track.clean, torch.ones_like(track.mask), track.bounds) for stream, track in of.items()}
        for some in (of, free):  # with two noise levels in each modality, and with one
            got, wanted = evaluated(model, some), evaluated(plain, some)
            assert all(torch.allclose(got[stream], wanted[stream], atol=1e-6) for stream in some)
    assert num_graphs() == 1


@pytest.fixture
def compiled_folder(pytestconfig: pytest.Config, tmp_path: Path) -> Path:
    """Pytest's cache keeps compiled code for later runs, as the data folder does for users. Torch finds it by a digest
    of all that it was made from. Without the cache (`-p no:cacheprovider`) it is a new folder."""
    cache = getattr(pytestconfig, "cache", None)
    return tmp_path / "compiled" if cache is None else cache.mkdir("compiled")


@needs_compiler
def test_compiled_code_is_near_and_follows_the_weights(
    num_graphs: Callable[[], int], compiled_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(compiled_folder))
    # Torch need not try each of the processor's vector instructions first, which takes a quarter of the test's time.
    monkeypatch.setattr(torch._inductor.config.cpp, "vec_isa_ok", True)
    plain, model, streamed = _transformer(), _blocks(_transformer()), _blocks(_transformer())
    memory.place({"transformer": streamed}, CPU, "group")
    for num_tokens in (6, 9):
        got = _velocity(model, num_tokens)
        assert torch.allclose(got, _velocity(plain, num_tokens), atol=1e-5)
        assert torch.equal(_velocity(streamed, num_tokens), got)
    for transformer in (plain, model):
        transformer.get_submodule("transformer_blocks.1.ff.net.2").weight.mul_(2)  # type: ignore[operator]
    changed = _velocity(model)
    assert torch.allclose(changed, _velocity(plain), atol=1e-5)
    assert not torch.allclose(changed, _velocity(streamed), atol=1e-4)
    assert num_graphs() == 1


@pytest.mark.parametrize(
    ("capability", "package", "program", "reason"),
    [
        ((9, 0), True, True, None),
        ((8, 0), True, True, None),
        ((7, 5), True, True, "the GPU has compute capability 7.5, and 8.0 is needed"),
        ((9, 0), False, True, "the package triton is not installed"),
        ((9, 0), True, False, r"there is no C compiler \(gcc or clang\)"),
    ],
)
def test_a_gpu_compiles_if_it_is_new_enough_and_has_a_compiler(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], package: bool, program: bool, reason: str | None
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package or None)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/cc" if program else None)
    decision = decide(Settings(compile="auto"), CUDA)
    assert decision.is_on == (reason is None)
    if reason is not None:
        with pytest.raises(NotSupported, match=f"LONGTAKE_COMPILE=on cannot be done here: {reason}"):
            decide(Settings(compile="on"), CUDA)
    assert not decide(Settings(compile="off"), CUDA).is_on


def test_a_cpu_compiles_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not decide(Settings(), CPU).is_on
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NotSupported, match=r"there is no C\+\+ compiler \(no-such-compiler\)"):
        decide(Settings(compile="on"), CPU)
    with pytest.raises(NotSupported, match="torch compiles nothing for mps"):
        decide(Settings(compile="on"), torch.device("mps"))


def _fail() -> None:
    raise RuntimeError("no header")


def test_blocks_that_cannot_be_compiled_compute_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = _transformer()
    blocks = CompiledBlocks(VIDEO)
    blocks.attach(model)
    warm_up(blocks, Settings(compiled_dir=tmp_path), _fail)
    assert "each step takes longer: compiling failed. RuntimeError: no header" in caplog.text
    assert torch.equal(_velocity(model), _velocity(_transformer()))
    with pytest.raises(NotSupported, match=r"LONGTAKE_COMPILE=on cannot be done here: compiling failed.*no header"):
        warm_up(CompiledBlocks(VIDEO), Settings(compile="on", compiled_dir=tmp_path), _fail)


def test_lack_of_memory_is_no_failure_of_the_compiler(tmp_path: Path) -> None:
    def full() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        warm_up(CompiledBlocks(VIDEO), Settings(compiled_dir=tmp_path), full)


@pytest.mark.parametrize("can_be_written", [True, False])
def test_compiled_code_is_kept_where_that_is_possible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, can_be_written: bool
) -> None:
    monkeypatch.setattr(compiled, "OPERATORS_FOLDER", None)
    monkeypatch.setenv(compiled.FOLDER_VARIABLE, str(tmp_path / "usual"))
    folder = tmp_path / "compiled"
    if not can_be_written:
        folder.write_text("")
    with caplog.at_level(logging.INFO):
        warm_up(CompiledBlocks(VIDEO), Settings(compiled_dir=folder), lambda: None)
    assert os.environ[compiled.FOLDER_VARIABLE] == str(folder if can_be_written else tmp_path / "usual")
    assert ("Compiled code is not kept" in caplog.text) != can_be_written
    assert "blocks were compiled in" in caplog.text
