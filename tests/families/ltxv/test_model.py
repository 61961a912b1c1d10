"""A model loads from a folder, says what it lacks, and tells of its progress."""

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake.errors import BadCheckpoint, Cancelled
from longtake.families.ltxv import model as ltxv_model
from longtake.families.ltxv.guidance import ValueAttention
from longtake.families.ltxv.model import LTXVModel, load
from longtake.families.ltxv.profiles import NONE, PROFILES, Guidance, Profile
from longtake.models import memory, parts, placement, vae_format
from longtake.models.budget import Memories
from longtake.models.checkpoints import Checkpoint
from longtake.models.compiled import obstacle
from longtake.models.lora_fit import linear_layers
from longtake.models.merging import Originals
from longtake.models.parts import InstalledParts, Loaded
from longtake.models.placement import part_bytes
from longtake.models.registry import WEIGHTS, LTXVCard, ModelCard, PartName
from longtake.models.video_transformer import TokenLevels
from longtake.runner import Runner
from longtake.settings import Settings
from longtake.video import OnProgress, Progress
from tests.models import small
from tests.models.cards import ltxv_card
from tests.simulated_gpu import can_simulate, simulated_gpus

NAME = "ltxv-13b-0.9.7-dev"


def _settings(tmp_path: Path, source: Path | None = None, **changes: object) -> Settings:
    sources = {} if source is None else {NAME: str(source)}
    return Settings(models_dir=tmp_path, compiled_dir=tmp_path, model_sources=sources, device="cpu", **changes)  # type: ignore[arg-type]


def test_loads_a_folder_in_diffusers_layout(tmp_path: Path, small_model: Path) -> None:
    reports: list[Progress] = []
    model = load(ltxv_card(NAME), _settings(tmp_path, small_model), on_progress=reports.append)
    assert small.same(model.transformer.state_dict(), small.transformer().state_dict())
    assert small.same(model.vae.state_dict(), small.vae().state_dict())
    assert model.upsampler is not None
    assert small.same(model.upsampler.state_dict(), small.upsampler().state_dict())
    assert (model.device, model.transformer.dtype) == (torch.device("cpu"), torch.float32)
    assert model.text.encode("a red ball").embeddings.shape == (1, 256, 12)
    assert [progress.step for progress in reports] == [0, 1, 2, 3, 4]


def test_the_blocks_that_guidance_disturbs_are_compiled_at_load(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first block, for one, can have weights in another dtype, and then needs other code."""
    disturbed: list[list[int]] = []

    def noted(transformer: Any, *_: Any) -> None:
        processors = [block.attn1.processor for block in transformer.transformer_blocks]
        disturbed.append([number for number, one in enumerate(processors) if isinstance(one, ValueAttention)])

    def evaluated(
        loaded: Loaded, _: Settings, evaluate: Callable[[Any, torch.device, torch.dtype], None], *__: Any
    ) -> None:
        evaluate(loaded.parts["transformer"], loaded.placement.device, loaded.placement.dtype)

    monkeypatch.setattr(ltxv_model, "velocity", noted)
    monkeypatch.setattr(Loaded, "compile_blocks", evaluated)
    monkeypatch.setitem(PROFILES, "dev", Profile(Guidance(stg=(1.0,), blocks=((1,),)), NONE))
    load(ltxv_card(NAME), _settings(tmp_path, small_model))
    assert disturbed == [[], [1]]


def test_loads_a_single_file_with_the_text_encoder_beside_it(tmp_path: Path, small_model: Path) -> None:
    folder = tmp_path / NAME
    folder.mkdir()
    small.write_single(folder / f"{NAME}.safetensors")
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(small_model / part, tmp_path / "ltxv-t5-xxl" / part)
    model = load(ltxv_card(NAME), _settings(tmp_path))
    assert small.same(model.transformer.state_dict(), small.transformer().state_dict())
    assert model.upsampler is None


def test_loads_the_parts_of_another_source(tmp_path: Path, small_model: Path) -> None:
    installed, loaded = _settings(tmp_path, small_model), []

    class Elsewhere(InstalledParts):
        """The parts of the small model, for settings that do not name it."""

        def open(self, card: ModelCard, settings: Settings) -> Mapping[PartName, Checkpoint]:
            return super().open(card, installed)

        def load(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Any:
            loaded.append(checkpoint.part)
            return super().load(checkpoint, dtype, device)

        def tokenizer(self, card: ModelCard, settings: Settings) -> Any:
            return super().tokenizer(card, installed)

    def load_elsewhere(card: ModelCard, settings: Settings, on_progress: OnProgress) -> LTXVModel:
        return load(ltxv_card(card.name), settings, on_progress, Elsewhere())

    runner = Runner(_settings(tmp_path / "empty"), load_model=load_elsewhere)
    model = runner.load(ltxv_card(NAME))
    assert small.same(model.transformer.state_dict(), small.transformer().state_dict())
    assert loaded == ["text_encoder", "vae", "upsampler", "transformer"]


@pytest.mark.parametrize(
    ("offload", "home", "text"),
    [
        ("none", "device", "all weights are on the device; adapters are merged into the weights, with copies beside"),
        ("group", "none", "host memory; adapters are computed beside the weights"),
    ],
)
def test_the_log_says_where_weights_are_and_how_adapters_are_applied(
    tmp_path: Path, small_model: Path, caplog: pytest.LogCaptureFixture, offload: str, home: str, text: str
) -> None:
    with caplog.at_level("INFO", "longtake.models.parts"):
        model = load(ltxv_card(NAME), _settings(tmp_path, small_model, offload=offload))
    assert model.originals.home == home
    assert text in caplog.text


@pytest.mark.parametrize(
    ("home", "has_adapters", "is_copied"), [("host", True, True), ("host", False, False), ("device", True, False)]
)
def test_slow_copies_are_made_at_load_for_a_model_with_adapters(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, home: str, has_adapters: bool, is_copied: bool
) -> None:
    copied = list[Any]()
    monkeypatch.setattr(placement, "copies_home", lambda *_: home)
    monkeypatch.setattr(parts, "adapters", lambda *_: {"distill": tmp_path} if has_adapters else {})
    monkeypatch.setattr(Originals, "copy_all", lambda originals, transformer: copied.append(transformer))
    model = load(ltxv_card(NAME), _settings(tmp_path, small_model))
    assert model.originals.home == home
    assert copied == ([model.transformer] if is_copied else [])


def test_a_text_encoder_without_room_is_loaded_into_host_memory(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The meta device stands for a GPU, whose memory has no room for activations beside all weights."""

    class OnMeta(InstalledParts):
        def load(self, checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Any:
            return super().load(checkpoint, dtype, "cpu").to(device)

    monkeypatch.setattr(memory, "choose_devices", lambda settings: (torch.device("meta"),))
    monkeypatch.setattr(memory, "memories", lambda device, slots: Memories(1, None))
    copied = list[tuple[Any, torch.device, bool]]()

    def note(module: torch.nn.Module, device: torch.device, *, pinned: bool) -> None:
        copied.append((module, device, pinned))

    monkeypatch.setattr("longtake.models.text.HostCopies", note)
    model = load(ltxv_card(NAME), _settings(tmp_path, small_model, offload="none"), source=OnMeta())
    modules = (model.transformer, model.vae, *model.text.modules)
    assert [next(module.parameters()).device.type for module in modules] == ["meta", "meta", "cpu"]
    assert copied == [(model.text.encoder, torch.device("meta"), False)]


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_copies_are_in_host_memory_if_other_programs_use_the_device(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the weights themselves, which stay there."""
    monkeypatch.setattr(memory, "memories", lambda device, slots: Memories(10**12, None))
    monkeypatch.setattr(vae_format, "decode_seconds", lambda vae, device: 1.0)
    settings = _settings(tmp_path, small_model).model_copy(update={"device": "cuda"})
    homes = []
    with simulated_gpus(monkeypatch):
        for free in (10**12, 1):
            monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
            model = load(ltxv_card(NAME), settings)
            homes.append(model.originals.home)
        for name, layer in linear_layers(model.transformer).items():
            weight = layer.weight.data
            assert model.originals.copy_of(name, weight).data_ptr() == weight.data_ptr()
    assert homes == ["device", "host"]


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"quantise": "fp8"}, {"offload": "group"}])
def test_other_ways_to_hold_it(tmp_path: Path, small_model: Path, changes: dict[str, str]) -> None:
    model = load(ltxv_card(NAME), _settings(tmp_path, small_model, **changes))
    dtypes = {parameter.dtype for parameter in model.transformer.parameters()}
    assert (
        dtypes
        == {
            "dtype": {torch.bfloat16},
            "quantise": {torch.float8_e4m3fn, torch.float32},
            "offload": {torch.float32},
        }[next(iter(changes))]
    )
    prompt = model.text.encode("a red ball")
    embeddings, mask = prompt.embeddings, prompt.mask
    assert embeddings.dtype == (torch.bfloat16 if "dtype" in changes else torch.float32)
    tokens, levels = torch.randn(1, 6, 6).to(embeddings.dtype), TokenLevels.of(torch.full((1, 6), 0.5))
    got = model.transformer(tokens, levels, torch.rand(1, 3, 6), embeddings, mask)
    assert got.dtype == embeddings.dtype
    assert got.isfinite().all()


@pytest.mark.skipif(obstacle(torch.device("cpu")) is not None, reason="there is no C++ compiler")
def test_blocks_are_compiled_at_load(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[int] = []

    def compiled(run: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def counted(*inputs: Any) -> Any:
            ran.append(1)
            return run(*inputs)

        return counted

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setitem(PROFILES, "dev", Profile(Guidance(stg=(1.0,), blocks=((1,),)), NONE))
    settings = _settings(tmp_path, small_model, compile="on")
    with caplog.at_level("INFO"):
        model = load(ltxv_card(NAME), settings)
    assert len(ran) == 2 * 2, "two blocks, plain and with the disturbed attention of the model's guidance"
    assert model.arithmetic == "float32 on cpu, compiled"
    assert "The transformer's blocks are compiled (LONGTAKE_COMPILE=on)." in caplog.text
    reports: list[Progress] = []
    several = settings.model_copy(update={"device": "cpu+cpu"})
    load(ltxv_card(NAME), several, reports.append)
    told = [(one.step, one.steps) for one in reports if one.stage == "load compiled blocks"]
    assert told == [(0, 2), (1, 2), (2, 2)], "each device needs code of its own, which takes long"

    def cancel(progress: Progress) -> None:
        if progress.stage == "load compiled blocks" and progress.step == 1:
            raise EOFError

    with pytest.raises(EOFError):  # it is not taken for a failure of the compiler
        load(ltxv_card(NAME), several, cancel)
    assert load(ltxv_card(NAME), _settings(tmp_path, small_model)).arithmetic == "float32 on cpu, not compiled"


@pytest.mark.parametrize("quantise", ["none", "fp8"])
def test_the_memory_of_each_part_is_known_before_it_is_loaded(tmp_path: Path, small_model: Path, quantise: str) -> None:
    settings = _settings(tmp_path, small_model, quantise=quantise)
    opened = InstalledParts().open(ltxv_card(NAME), settings)
    sizes = part_bytes(opened, torch.float32, "storage" if quantise == "fp8" else "none")
    model = load(ltxv_card(NAME), settings)
    for part, module in (("transformer", model.transformer), ("vae", model.vae)):
        assert sizes[part] == sum(tensor.nbytes for tensor in module.state_dict().values())
    assert model.arithmetic.endswith(", weights in fp8") == (quantise == "fp8")


def test_what_is_missing_is_named_with_the_way_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(
        BadCheckpoint, match=r"lacks its transformer, vae, .*`longtake models pull ltxv-13b-0\.9\.7-dev`"
    ):
        load(ltxv_card(NAME), _settings(tmp_path))


def test_a_package_without_its_miniature_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("longtake.models.registry.WEIGHTS", tmp_path)
    with pytest.raises(BadCheckpoint, match=r"ltxv-tiny is not installed: .* lacks its .*; install the package again"):
        load(ltxv_card("ltxv-tiny"), Settings(model_sources={}, device="cpu"))


def test_a_broken_tokenizer_is_refused(tmp_path: Path, small_model: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(small_model, folder)
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(BadCheckpoint, match="no usable tokenizer"):
        load(ltxv_card(NAME), _settings(tmp_path, folder))


def test_loading_can_be_cancelled(tmp_path: Path, small_model: Path) -> None:
    def cancel(progress: Progress) -> None:
        if progress.step == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        load(ltxv_card(NAME), _settings(tmp_path, small_model), on_progress=cancel)


def _tiny() -> LTXVCard:
    if not (WEIGHTS / "ltxv-tiny" / "transformer").exists():
        pytest.skip("the embedded model ltxv-tiny is not in this checkout")
    return ltxv_card("ltxv-tiny")


def test_the_embedded_model_is_what_its_card_says(tmp_path: Path) -> None:
    facts = _tiny()
    model = load(facts, _settings(tmp_path))
    assert model.transformer.dtype == torch.float32
    assert model.vae.spatial_compression_ratio == facts.spatial_compression
    assert model.vae.temporal_compression_ratio == facts.temporal_compression
    assert model.transformer.config.in_channels == model.vae.config.latent_channels
    prompt = model.text.encode("a red ball rolls to the left")
    embeddings, mask = prompt.embeddings, prompt.mask
    assert embeddings.shape == (1, facts.prompt_tokens, model.transformer.config.caption_channels)
    assert 1 < mask.sum() < facts.prompt_tokens
    assert model.upsampler is not None


def test_the_tiny_model_of_the_study_loads(tmp_path: Path, shared: Path) -> None:
    source = shared / "reference" / "tiny_study" / "pipeline_fp16"
    model = load(ltxv_card("ltxv-tiny"), Settings(model_sources={"ltxv-tiny": str(source)}, device="cpu"))
    facts = ltxv_card("ltxv-tiny")
    assert model.vae.spatial_compression_ratio == facts.spatial_compression
    assert model.vae.temporal_compression_ratio == facts.temporal_compression
    assert model.text.encode("a red ball rolls").mask.shape == (1, facts.prompt_tokens)


@pytest.mark.skipif(obstacle(torch.device("cpu")) is not None, reason="there is no C++ compiler")
@pytest.mark.parametrize("quantise", ["none", "fp8"])
def test_each_further_device_has_a_copy_of_the_transformer_alone(
    tmp_path: Path, small_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, quantise: str
) -> None:
    """The copies are rounded and compiled as the transformer, in their own threads, and share no weight with it."""
    compiled_in = list[str]()

    def compiled(run: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        def noted(*inputs: Any) -> Any:
            compiled_in.append(threading.current_thread().name.split("_")[0])
            return run(*inputs)

        return noted

    monkeypatch.setattr(torch, "compile", compiled)
    settings = _settings(tmp_path, small_model, compile="on", quantise=quantise)
    settings = settings.model_copy(update={"device": "cpu+cpu+cpu"})
    with caplog.at_level("INFO"):
        model = load(ltxv_card(NAME), settings)
    short = ", weights in fp8" if quantise == "fp8" else ""
    assert model.arithmetic == f"float32 on 3 x cpu, compiled{short}"
    assert "cpu and cpu and cpu compute together; each has a copy of the transformer." in caplog.text
    blocks = len(model.transformer.transformer_blocks)
    assert compiled_in == ["MainThread"] * blocks + ["replica"] * 2 * blocks
    weights = [
        dict(each.state_dict()) for each in (model.transformer, *(one.transformer for one in model.replicas.copies))
    ]
    assert len(weights) == 3
    for name, weight in weights[0].items():
        ones = [each[name] for each in weights]
        assert all(torch.equal(one.float(), weight.float()) for one in ones)
        assert len({one.data_ptr() for one in ones}) == 3
