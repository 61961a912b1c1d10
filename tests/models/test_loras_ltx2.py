"""Adapters of an LTX-2 transformer: published names, the model's own by name, and other scales between passes."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.oracle import ltx2
from longtake.errors import BadCheckpoint, InvalidRequest, NotSupported
from longtake.models import fp8, memory
from longtake.models.applying import applied
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, attach, velocities
from longtake.models.checkpoints import empty_model, open_part
from longtake.models.lora_fit import check_fit
from longtake.models.lora_header import read_lora_header
from longtake.models.loras import Adapter, LoraCache, Pair, read
from longtake.models.merging import Originals
from longtake.models.registry import card
from longtake.plans import PlannedAdapter
from longtake.settings import Settings
from tests.conftest import load_case
from tests.models import small, small_ltx2
from tests.models.adapters import applied_in_pass, load_adapters

LAYER = "transformer_blocks.1.audio_to_video_attn.to_q"
WORDS = EncodedPrompt(torch.randn(1, 8, 32), torch.randn(1, 8, 16))


def test_oracle_lora_ltx2(oracle: Path) -> None:
    case = load_case(oracle, "lora_ltx2")
    case.check_all(ltx2.adapters(case))


def test_oracle_scales_change_between_passes(oracle: Path) -> None:
    case = load_case(oracle, "lora_ltx2")
    transformer, tracks = case.model("ltx2_transformer"), ltx2.given_tracks(case)
    tokens = {stream: track.clean for stream, track in tracks.items()}
    positioned, prediction = PositionedTracks.of(transformer, tracks), Prediction(ltx2.prompt(case, "prompt"))
    adapters = [read(case.root / case.name / f"lora_{letter}.safetensors") for letter in "ab"]
    before = {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    runs = {"a_s2": (1.0, 0.0), "a_b": (0.2, 0.5), "a_s1": (0.2, 0.0), "base": (0.0, 0.0)}
    by_adapter = zip(adapters, zip((0.9, 0.9), *runs.values(), strict=True), strict=True)
    with applied(transformer, list(by_adapter)) as set_pass:
        for number, run in enumerate(runs, 1):
            set_pass(number)
            made = velocities(transformer, positioned, tokens, case.params["sigma"], [prediction], ())
            case.check_all((f"{run}.{stream}", got) for stream, got in made.items())
    assert small.same(transformer.state_dict(), before)


@pytest.mark.parametrize("name", ["lora_ltx2", "ltx2_two_stage_lora"])
def test_the_published_names_are_converted_as_the_oracle_says(oracle: Path, name: str) -> None:
    case = load_case(oracle, name)
    for file, names in case.document["converted_keys"].items():
        expected = {re.sub(r"^transformer\.(.*)\.lora_[AB]\.weight$", r"\1", name) for name in names.values()}
        assert read(case.root / case.name / file).pairs.keys() == expected


@pytest.fixture
def transformer() -> nn.Module:
    model = small_ltx2.model("transformer")
    attach(model)
    return model


def _tensors(name: str = f"diffusion_model.{LAYER}", rank: int = 2, out: int = 16, into: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return {
        f"{name}.lora_A.weight": torch.randn(rank, into, generator=generator),
        f"{name}.lora_B.weight": torch.randn(out, rank, generator=generator),
    }


def _written(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


@pytest.mark.parametrize(
    ("published", "ours", "out", "into"),
    [
        ("patchify_proj", "proj_in", 32, 4),
        ("audio_patchify_proj", "audio_proj_in", 16, 8),
        ("adaln_single.linear", "time_embed.linear", 288, 32),
        (
            "audio_adaln_single.emb.timestep_embedder.linear_1",
            "audio_time_embed.emb.timestep_embedder.linear_1",
            16,
            256,
        ),
        ("prompt_adaln_single.linear", "prompt_adaln.linear", 64, 32),
        ("audio_prompt_adaln_single.linear", "audio_prompt_adaln.linear", 32, 16),
        ("av_ca_video_scale_shift_adaln_single.linear", "av_cross_attn_video_scale_shift.linear", 128, 32),
        ("av_ca_audio_scale_shift_adaln_single.linear", "av_cross_attn_audio_scale_shift.linear", 64, 16),
        ("av_ca_a2v_gate_adaln_single.linear", "av_cross_attn_video_a2v_gate.linear", 32, 32),
        ("av_ca_v2a_gate_adaln_single.linear", "av_cross_attn_audio_v2a_gate.linear", 16, 16),
        ("transformer_blocks.0.audio_attn1.to_gate_logits", "transformer_blocks.0.audio_attn1.to_gate_logits", 2, 16),
    ],
)
def test_both_styles_of_every_renamed_module(
    tmp_path: Path, transformer: nn.Module, published: str, ours: str, out: int, into: int
) -> None:
    plain = small_ltx2.evaluated(transformer, WORDS)
    changed = []
    for style in (f"diffusion_model.{published}", f"model.diffusion_model.{published}", f"transformer.{ours}"):
        adapter = read(_written(tmp_path / "l", _tensors(style, 2, out, into)))
        assert adapter.pairs.keys() == {ours}
        with applied_in_pass(transformer, [(adapter, (0.5,))]):
            changed.append(small_ltx2.evaluated(transformer, WORDS))
    for stream in (0, 1):
        assert torch.equal(changed[0][stream], changed[1][stream])
        assert torch.equal(changed[0][stream], changed[2][stream])
    assert any(not torch.equal(plain[stream], changed[0][stream]) for stream in (0, 1))


@pytest.mark.parametrize(
    "name",
    [
        "text_embedding_projection.video_aggregate_embed",
        "connectors.video_text_proj_in",
        "diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q",
        "transformer.audio_connector.transformer_blocks.0.ff.net.2",
    ],
)
def test_changes_of_the_connectors_are_left_out_as_the_reference_does(tmp_path: Path, name: str) -> None:
    adapter = read(_written(tmp_path / "l", _tensors() | _tensors(name)))
    assert adapter.pairs.keys() == {LAYER}
    with pytest.raises(BadCheckpoint, match="no pair"):
        read(_written(tmp_path / "l", _tensors(name)))


@pytest.mark.parametrize("how", ["fp8", "model", "group"])
def test_rescaling_with_any_storage_of_the_weights(tmp_path: Path, transformer: nn.Module, how: str) -> None:
    adapter = read(_written(tmp_path / "l", _tensors()))
    if how == "fp8":
        fp8.convert(transformer, "storage", torch.float32)
    else:
        others = {"transformer": transformer, "vae": small_ltx2.model("vae")}
        memory.place(others, torch.device("cpu"), how)  # type: ignore[arg-type]
    originals, expected = Originals("none" if how == "group" else "device"), {}
    for scale in (0.25, 2.0):
        with applied_in_pass(transformer, [(adapter, (scale,))], originals=originals):
            expected[scale] = small_ltx2.evaluated(transformer, WORDS)
    with applied(transformer, [(adapter, (1.0, *expected))], originals=originals) as set_pass:
        for number, (video, audio) in enumerate(expected.values(), 1):
            set_pass(number)
            assert torch.equal(small_ltx2.evaluated(transformer, WORDS)[0], video)
            assert torch.equal(small_ltx2.evaluated(transformer, WORDS)[1], audio)
    assert not torch.equal(expected[0.25][0], expected[2.0][0])


def test_ranks_of_their_own_are_kept(tmp_path: Path, transformer: nn.Module) -> None:
    """Most layers have one rank, some another: the change is that of the matrices all the same."""
    names = [f"transformer_blocks.{block}.attn1.to_{side}" for block in (0, 1) for side in "qkv"]
    pairs = {name: Pair(torch.randn(2, 32), torch.randn(32, 2)) for name in names}
    pairs[LAYER] = Pair(torch.randn(5, 32), torch.randn(16, 5), 0.5)
    with applied_in_pass(transformer, [(Adapter("a", pairs), (0.3,))]):
        got = small_ltx2.evaluated(transformer, WORDS)
    for name, pair in pairs.items():
        transformer.get_submodule(name).weight.add_(0.3 * pair.factor * pair.b @ pair.a)  # type: ignore[operator]
    for ours, fused in zip(got, small_ltx2.evaluated(transformer, WORDS), strict=True):
        assert (ours - fused).abs().max() <= 1e-5 * fused.abs().max()


def _settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=tmp_path / "models", loras_dir=tmp_path / "loras", model_sources={})


def _own(name: str, settings: Settings, model: str = "ltx-2.3") -> Adapter:
    """One of the model's own adapters, as a request's field `camera_lora` asks for it."""
    planned = PlannedAdapter(name, (1.0, 0.5), ("body", "camera_lora"), own=True)
    [(adapter, scales)] = load_adapters([planned], card(model), settings, LoraCache(2**20))
    assert scales == (1.0, 0.5)
    return adapter


def test_the_models_own_adapters_by_name(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    folder = tmp_path / "models" / "ltx-2.3"
    (folder / "loras").mkdir(parents=True)
    _written(folder / "loras" / "ltx-2-19b-lora-camera-control-dolly-in.safetensors", _tensors())
    _written(folder / "ltx-2.3-22b-distilled-lora-384-1.1.safetensors", _tensors(rank=4))
    _written(folder / "loras" / "camera_jib_up.safetensors", _tensors(rank=3))
    ranks = {
        name: _own(name, settings).pairs[LAYER].a.shape[0] for name in ("camera_dolly_in", "distill", "camera_jib_up")
    }
    assert ranks == {"camera_dolly_in": 2, "distill": 4, "camera_jib_up": 3}
    assert _own("distill", settings).loc == ("body", "camera_lora")


def test_an_adapter_that_is_not_here_is_told_with_its_field(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match=r"camera_static is not .*`longtake models pull ltx-2\.3`") as raised:
        _own("camera_static", _settings(tmp_path))
    assert raised.value.loc == ("body", "camera_lora")
    assert raised.value.detail()["type"] == "feature_not_supported"
    with pytest.raises(NotSupported, match=r"camera_roll is none of ltx-2\.3, which has no adapters"):
        _own("camera_roll", _settings(tmp_path))
    with pytest.raises(NotSupported, match="distill is none of ltxv-tiny"):
        _own("distill", _settings(tmp_path), "ltxv-tiny")


def test_a_misfit_is_told_where_it_was_asked_for(tmp_path: Path, transformer: nn.Module) -> None:
    settings = _settings(tmp_path)
    (tmp_path / "models" / "ltx-2.3" / "loras").mkdir(parents=True)
    _written(tmp_path / "models" / "ltx-2.3" / "loras" / "camera_static.safetensors", _tensors(out=17))
    (tmp_path / "loras").mkdir()
    _written(tmp_path / "loras" / "mine.safetensors", _tensors("diffusion_model.nowhere"))
    camera = _own("camera_static", settings)
    with pytest.raises(InvalidRequest, match="its change 17 x 32") as raised, applied(transformer, [(camera, (1.0,))]):
        pass
    assert raised.value.loc == ("body", "camera_lora")
    planned = PlannedAdapter("mine.safetensors", (1.0,), ("body", "loras", 0, "path"))
    mine = load_adapters([planned], card("ltx-2.3"), settings, LoraCache(2**20))
    with pytest.raises(InvalidRequest, match="lacks 1 module: nowhere") as raised, applied(transformer, mine):
        pass
    assert raised.value.loc == ("body", "loras", 0, "path")


def test_an_adapter_is_checked_by_its_header_alone(tmp_path: Path) -> None:
    folder = small.write_folder(tmp_path / "transformer", small_ltx2.model("transformer"))
    model = empty_model(open_part("transformer", folder))
    good = read_lora_header(_written(tmp_path / "l", _tensors()))
    check_fit(good, model)
    assert good.num_parameters == 2 * (16 + 32)
    with pytest.raises(InvalidRequest, match="its change 16 x 33"):
        check_fit(read_lora_header(_written(tmp_path / "l", _tensors(into=33))), model)
    with pytest.raises(BadCheckpoint, match="unknown key"):
        read_lora_header(_written(tmp_path / "l", {"x": torch.ones(1)}))
    odd = _tensors() | {f"diffusion_model.{LAYER}.lora_B.weight": torch.ones(16, 3)}
    with pytest.raises(BadCheckpoint, match="do not multiply"):
        read_lora_header(_written(tmp_path / "l", odd))


def test_a_damaged_adapter_of_the_models_own_is_no_fault_of_the_request(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "ltx-2.3" / "loras"
    folder.mkdir(parents=True)
    (folder / "camera_static.safetensors").write_bytes(b"not weights")
    with pytest.raises(BadCheckpoint, match="not a usable safetensors"):
        _own("camera_static", _settings(tmp_path))
