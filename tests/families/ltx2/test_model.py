"""A whole LTX-2 model: loaded from both layouts, placed in every way, and refused where its parts do not match."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from longtake.errors import BadCheckpoint
from longtake.families.ltx2 import model as ltx2_model
from longtake.families.ltx2.model import LTX2Model, load
from longtake.models import gemma, memory, registry, vae_format
from longtake.models.compiled import obstacle
from longtake.models.parts import InstalledParts, Loaded
from longtake.models.placement import part_bytes
from longtake.models.registry import missing
from longtake.models.streaming import is_streamed
from longtake.settings import Settings
from longtake.video import Progress
from tests.models import small, small_ltx2
from tests.models.cards import ltx2_card
from tests.simulated_gpu import can_simulate, simulated_gpus

NAME = "ltx-2.3"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_ltx2.write_model(tmp_path_factory.mktemp("models") / NAME)


@pytest.fixture(autouse=True)
def _few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published card, but for prompts that small connectors can read."""
    monkeypatch.setattr(registry, "CARDS", {**registry.CARDS, NAME: replace(ltx2_card(NAME), prompt_tokens=16)})


def _settings(folder: Path, **changes: Any) -> Settings:
    return Settings(models_dir=folder, compiled_dir=folder / "compiled", model_sources={}, device="cpu", **changes)


def _velocity(model: LTX2Model) -> tuple[Tensor, Tensor]:
    return small_ltx2.evaluated(model.transformer, model.text.encode("a red ball"), model.text.dtype)


def test_the_blocks_that_guidance_disturbs_are_compiled_at_load(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block, for one, can have weights in another dtype, and then needs other code."""
    disturbed: list[tuple[int, ...]] = []

    def evaluated(
        loaded: Loaded, _: Settings, evaluate: Callable[[Any, torch.device, torch.dtype], None], *__: Any
    ) -> None:
        evaluate(loaded.parts["transformer"], loaded.placement.device, loaded.placement.dtype)

    monkeypatch.setattr(ltx2_model, "velocities", lambda *arguments: disturbed.append(arguments[-1]))
    monkeypatch.setattr(Loaded, "compile_blocks", evaluated)
    load(ltx2_card(NAME), _settings(whole.parent))
    assert disturbed == [(28,), (28,)]


def test_the_parts_come_in_eval_mode_and_progress_is_reported(whole: Path) -> None:
    reports: list[Progress] = []
    model = load(ltx2_card(NAME), _settings(whole.parent), on_progress=reports.append)
    for part in (model.transformer, model.vae, model.audio_vae, model.vocoder, model.upsampler):
        assert not part.training  # type: ignore[union-attr]
        assert not any(parameter.requires_grad for parameter in part.parameters())  # type: ignore[union-attr]
    assert [step.stage for step in reports] == [
        "load text_encoder",
        "load connectors",
        "load vae",
        "load audio_vae",
        "load vocoder",
        "load upsampler",
        "load transformer",
        "load",
    ]
    assert model.text.num_tokens == 16


def test_the_published_file_is_the_same_model(whole: Path, tmp_path: Path) -> None:
    published = tmp_path / NAME
    published.mkdir()
    small_ltx2.write_single(published / "ltx-2.3-22b-dev.safetensors")
    small_ltx2.write_upscaler(published / "ltx-2.3-spatial-upscaler-x2-1.1.safetensors")
    gemma = tmp_path / "gemma-3-12b-it-qat-q4_0-unquantized"
    gemma.mkdir()
    for folder in ("text_encoder", "tokenizer"):
        for file in (whole / folder).iterdir():
            (gemma / file.name).write_bytes(file.read_bytes())
    from_folder, from_file = (load(ltx2_card(NAME), _settings(place)) for place in (whole.parent, tmp_path))
    for ours, theirs in zip(_velocity(from_folder), _velocity(from_file), strict=True):
        assert torch.equal(ours, theirs)
    latents, sounds = torch.randn(1, 4, 2, 2, 2), torch.randn(1, 2, 6, 4)
    for name, given in (("vae", latents), ("audio_vae", sounds)):
        one, other = (getattr(model, name).decode(given, return_dict=False)[0] for model in (from_folder, from_file))
        assert torch.equal(one, other)
    assert torch.equal(from_folder.upsampler(latents), from_file.upsampler(latents))  # type: ignore[misc]
    mel = torch.randn(1, 2, 8, 16)
    assert torch.equal(from_folder.vocoder(mel), from_file.vocoder(mel))


@pytest.mark.parametrize("offload", ["model", "group"])
def test_the_same_numbers_however_it_is_placed(whole: Path, offload: str) -> None:
    plain = load(ltx2_card(NAME), _settings(whole.parent))
    moved = load(ltx2_card(NAME), _settings(whole.parent, offload=offload))
    assert is_streamed(moved.text.encoder) == (offload == "group")
    for _ in range(2):
        for ours, theirs in zip(_velocity(plain), _velocity(moved), strict=True):
            assert torch.equal(ours, theirs)


def test_a_moved_text_stack_writes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemma, "MAX_NEW_TOKENS", 6)
    monkeypatch.setattr(gemma, "TEMPERATURE", 6.0)
    small_ltx2.write_model(tmp_path / NAME, sees=True)
    frame = np.full((9, 7, 3), 200, np.uint8)
    written = {
        offload: load(ltx2_card(NAME), _settings(tmp_path, offload=offload)).text.expand("a red ball", frame, 4)
        for offload in ("none", "model", "group")
    }
    assert len(set(written.values())) == 1
    assert written["none"] != "a red ball"


def test_sound_stays_in_float32_and_fp8_is_for_the_transformer(whole: Path) -> None:
    model = load(ltx2_card(NAME), _settings(whole.parent, dtype="bfloat16", quantise="fp8"))
    dtypes = {name: next(getattr(model, name).parameters()).dtype for name in ("vae", "audio_vae", "vocoder")}
    assert dtypes == {"vae": torch.bfloat16, "audio_vae": torch.float32, "vocoder": torch.float32}
    assert model.transformer.transformer_blocks[0].attn1.to_q.weight.dtype == torch.float8_e4m3fn
    plain = load(ltx2_card(NAME), _settings(whole.parent))
    for rough, exact in zip(_velocity(model), _velocity(plain), strict=True):
        assert rough.dtype == torch.bfloat16
        assert 0 < (rough.float() - exact).abs().max() < 0.5 * exact.abs().max()


@pytest.mark.skipif(not can_simulate(), reason="GPUs are simulated by torch for CPUs alone")
def test_a_text_encoder_without_room_on_the_gpu_is_stored_in_8_bits_where_that_is_allowed(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is then not streamed, so that a prompt can be written fast."""
    sizes = part_bytes(InstalledParts().open(ltx2_card(NAME), _settings(whole.parent)), torch.float32, "none")
    total = sizes["text_encoder"] + 8 * sum(sizes.values()) - 1
    monkeypatch.setattr(vae_format, "decode_seconds", lambda vae, device: 1.0)
    with simulated_gpus(monkeypatch, total=total) as gpus:
        changes = {"device": "cuda:1", "dtype": "float32"}
        for quantise, in_bits in (("none", set[torch.dtype]()), ("fp8", {torch.float8_e4m3fn})):
            model = load(ltx2_card(NAME), _settings(whole.parent).model_copy(update=changes | {"quantise": quantise}))
            encoder = model.text.encoder
            assert {weight.dtype for weight in encoder.parameters()} == {torch.float32} | in_bits
            assert is_streamed(encoder) != bool(in_bits)
            with memory.current_gpu(model.device), torch.inference_mode():
                assert model.text.encode("a red ball").video.isfinite().all()
                model.text.release()
            del model, encoder
        assert gpus.peak < total


def test_without_an_upsampler(whole: Path, tmp_path: Path) -> None:
    _linked(whole, tmp_path / NAME, without="latent_upsampler")
    assert load(ltx2_card(NAME), _settings(tmp_path)).upsampler is None


def _linked(whole: Path, folder: Path, *, without: str = "") -> Path:
    folder.mkdir()
    for part in whole.iterdir():
        if part.name != without:
            (folder / part.name).symlink_to(part)
    return folder


def test_missing_parts_are_named_with_the_remedy(whole: Path, tmp_path: Path) -> None:
    _linked(whole, tmp_path / NAME, without="connectors")
    with pytest.raises(BadCheckpoint, match=r"lacks its connectors; `longtake models pull ltx-2\.3`"):
        load(ltx2_card(NAME), _settings(tmp_path))


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("connectors", {"text_proj_in_factor": 5}, "3 hidden states of 16 channels; its connectors read 5 of 16"),
        ("connectors", {"video_hidden_dim": 48, "video_connector_num_attention_heads": 3}, "48 channels; its transf"),
        ("connectors", {"audio_connector_num_learnable_registers": 6}, "6 registers, of which 16 prompt tokens"),
    ],
)
def test_parts_that_are_not_for_each_other(
    whole: Path, tmp_path: Path, part: str, change: dict[str, Any], reason: str
) -> None:
    folder = _linked(whole, tmp_path / NAME, without=part)
    cls, config = small_ltx2.CLASSES[part]
    small.write_folder(folder / part, small.seeded(cls, config | change))
    with pytest.raises(BadCheckpoint, match=reason):
        load(ltx2_card(NAME), _settings(tmp_path))


def test_a_damaged_part_is_named(whole: Path, tmp_path: Path) -> None:
    folder = _linked(whole, tmp_path / NAME, without="vocoder")
    damaged = small.write_folder(folder / "vocoder", small_ltx2.model("vocoder"))
    config = json.loads((damaged / "config.json").read_text())
    (damaged / "config.json").write_text(json.dumps(config | {"hidden_channels": 16}))
    with pytest.raises(BadCheckpoint, match=r"vocoder does not fit LTX2VocoderWithBWE: .* of another shape"):
        load(ltx2_card(NAME), _settings(tmp_path))


def test_the_embedded_model_loads_and_reads_prompts() -> None:
    settings = Settings(model_sources={}, device="cpu")
    if missing(ltx2_card("ltx2-tiny"), settings):
        pytest.skip("the embedded model's weights are not in the package")
    model = load(ltx2_card("ltx2-tiny"), settings)
    prompt = model.text.encode("a red circle rolls")
    video, audio = prompt.video, prompt.audio
    assert (video.shape[:2], audio.shape[:2]) == ((1, 32), (1, 32))
    assert not torch.equal(video, model.text.encode("a blue square").video)
    assert not model.text.can_write
    assert model.upsampler is not None, "its own, or the first family's"
    assert max(model.card.stg_blocks) < model.transformer.config.num_layers
    assert model.vae.config.spatial_compression_ratio == model.card.spatial_compression
    assert model.vae.config.temporal_compression_ratio == model.card.temporal_compression


@pytest.mark.skipif(obstacle(torch.device("cpu")) is not None, reason="there is no C++ compiler")
def test_blocks_are_compiled_at_load_for_usual_guidance(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, bool]] = []

    def compiled(run: Any, **options: Any) -> Any:
        def noted(block: Any, hidden: Any, inputs: Any) -> Any:
            seen.append((len(hidden["video"]), inputs.connected, bool(inputs.disturbed)))
            return run(block, hidden, inputs)

        return noted

    monkeypatch.setattr(torch, "compile", compiled)
    model = load(replace(ltx2_card(NAME), stg_blocks=(1,)), _settings(whole.parent, compile="on"))
    assert set(seen) == {(4, 3, True), (4, 3, False), (1, 1, False)}
    assert model.arithmetic == "float32 on cpu, compiled"
    assert all(value.isfinite().all() for value in _velocity(model))
