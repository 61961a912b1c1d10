"""LTX-2.3 single files, folders and Gemma-3: every key mapped, every setting derived, and nothing half right."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from longtake.errors import BadCheckpoint
from longtake.models import layout_ltx2
from longtake.models.checkpoints import compare, empty_model, load, open_part
from longtake.models.registry import PartName
from longtake.models.text_encoders import gemma_key
from tests.conftest import load_case
from tests.models import small, small_ltx2, small_ltx2_configs

ORACLE: dict[PartName, str] = {
    "transformer": "ltx2_transformer",
    "connectors": "ltx2_connectors",
    "vae": "ltx2_video_vae",
    "audio_vae": "ltx2_audio_vae",
    "vocoder": "ltx2_vocoder",
}
PARTS: tuple[PartName, ...] = tuple(ORACLE)


@pytest.mark.parametrize("part", PARTS)
def test_oracle_single_file(oracle: Path, part: PartName) -> None:
    case = load_case(oracle, "single_file_ltx2")
    facts = case.document["models"][ORACLE[part]]
    opened = open_part(part, case.root / case.name / case.params["file"])
    assert len(opened.weights) == case.document["expected_keys"][ORACLE[part]]
    assert opened.cls == (facts["module"], facts["cls"])
    assert opened.config == facts["config"]
    assert small.same(load(opened, dtype=torch.float32).state_dict(), load_file(case.root / facts["weights"]))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_ltx2.write_single(tmp_path_factory.mktemp("single") / "ltx-2.3.safetensors")


@pytest.mark.parametrize("part", PARTS)
def test_a_single_file_is_the_same_model(single: Path, part: PartName) -> None:
    expected = small_ltx2.model(part)
    got: Any = load(open_part(part, single), dtype=torch.float32)
    assert small.same(got.state_dict(), expected.state_dict())
    config: Any = expected.config
    assert json.dumps({n: got.config[n] for n in config if n[0] != "_"}, sort_keys=True) == json.dumps(
        {n: config[n] for n in config if n[0] != "_"}, sort_keys=True
    )


@pytest.mark.parametrize("part", PARTS)
def test_the_diffusers_folder_too(tmp_path: Path, part: PartName) -> None:
    expected = small_ltx2.model(part)
    folder = small.write_folder(tmp_path / part, expected, shards=2)
    assert small.same(load(open_part(part, folder), dtype=torch.float32).state_dict(), expected.state_dict())


def test_the_upscaler_of_either_family(tmp_path: Path) -> None:
    expected = small_ltx2.upsampler()
    published = load(open_part("upsampler", small_ltx2.write_upscaler(tmp_path / "x2")), dtype=torch.float32)
    folder = load(open_part("upsampler", small.write_folder(tmp_path / "f", expected)), dtype=torch.float32)
    assert type(published).__name__ == type(folder).__name__ == "LTX2LatentUpsamplerModel"
    plain = tmp_path / "plain"
    save_file(dict(expected.state_dict()), plain, {"config": json.dumps(small_ltx2_configs.UPSAMPLER)})
    older = load(open_part("upsampler", plain), dtype=torch.float32)
    assert type(older).__name__ == "LTXLatentUpsamplerModel"
    latents = torch.randn(1, 4, 2, 3, 3)
    assert torch.equal(older(latents), expected(latents)), "files that do not tell their family do the same"


@pytest.mark.parametrize(
    ("part", "parameters"),
    [
        ("transformer", 18_988_838_144),
        ("connectors", 3_172_227_584),
        ("vae", 726_105_969),
    ],
)
def test_the_published_settings_make_the_published_sizes(part: PartName, parameters: int) -> None:
    """The header's settings at full size, as read from the published model."""
    config = copy.deepcopy(small_ltx2_configs.PUBLISHED)
    config["transformer"] |= {
        "num_attention_heads": 32,
        "attention_head_dim": 128,
        "in_channels": 128,
        "out_channels": 128,
        "num_layers": 48,
        "cross_attention_dim": 4096,
        "audio_num_attention_heads": 32,
        "audio_attention_head_dim": 64,
        "audio_in_channels": 128,
        "audio_out_channels": 128,
        "audio_cross_attention_dim": 2048,
        "caption_channels": 3840,
        "connector_num_attention_heads": 32,
        "connector_attention_head_dim": 128,
        "connector_num_layers": 8,
        "audio_connector_attention_head_dim": 64,
    }
    counts, widths = (4, 6, 4, 2, 2), (("space", 2), ("time", 2), ("all", 2), ("all", 1))
    encoder: list[Any] = [["res_x", {"num_layers": counts[0]}]]
    decoder: list[Any] = [["res_x", {"num_layers": counts[0]}]]
    for count, (kind, width), back in zip(counts[1:], widths, (2, 2, 1, 2), strict=True):
        encoder += [[f"compress_{kind}_res", {"multiplier": width}], ["res_x", {"num_layers": count}]]
        decoder += [[f"compress_{kind}", {"multiplier": back}], ["res_x", {"num_layers": count}]]
    config["vae"] |= {"latent_channels": 128, "encoder_blocks": encoder, "decoder_blocks": decoder}
    del config["vae"]["decoder_base_channels"]
    shapes: dict[str, tuple[int, ...]] = {
        "video_text_proj_in.weight": (4096, 49 * 3840),
        "audio_text_proj_in.weight": (2048, 49 * 3840),
        "video_text_proj_in.bias": (4096,),
        "video_connector.learnable_registers": (128, 4096),
        "audio_connector.learnable_registers": (128, 2048),
    }
    opened = small_ltx2.opened(part, layout_ltx2.config_of(part, config, shapes))
    assert sum(parameter.numel() for parameter in empty_model(opened).parameters()) == parameters


def test_connectors_count_the_layers_that_they_read() -> None:
    shapes = {f"{side}_text_proj_in.weight": (8, 49 * 3840) for side in ("video", "audio")}
    published = small_ltx2_configs.PUBLISHED["transformer"] | {"caption_channels": 4096}
    config = layout_ltx2.config_of("connectors", {"transformer": published}, shapes)
    assert (config["caption_channels"], config["text_proj_in_factor"]) == (3840, 49)
    assert config["video_connector_num_learnable_registers"] is None
    assert not config["proj_bias"]


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("transformer", {"transformer": {"caption_proj_before_connector": False}}, "caption_proj_before_connector"),
        ("transformer", {"transformer": {"qk_norm": "layer_norm"}}, "qk_norm = layer_norm"),
        ("transformer", {"transformer": {"num_layers": 10**9}}, "num_layers = 1000000000"),
        ("transformer", {"transformer": {"num_layers": "two"}}, "builds no LTX2VideoTransformer3DModel"),
        ("transformer", {"transformer": {"positional_embedding_max_pos": [20]}}, "does not tell how its transformer"),
        ("transformer", {"audio_vae": {"model": 3}}, "does not tell how its transformer"),
        ("connectors", {"transformer": {"caption_channels": 0}}, "does not tell how its connectors"),
        ("connectors", {"transformer": {"connector_num_layers": 4}}, "missing: video_connector.transformer_blocks"),
        ("vae", {"vae": {"_class_name": "CausalDiffusionVAE"}}, "_class_name = CausalDiffusionVAE"),
        ("vae", {"vae": {"encoder_blocks": "all"}}, "encoder_blocks"),
        ("vae", {"vae": {"decoder_base_channels": 2**30}}, "decoder_block_out_channels = "),
        ("audio_vae", {"audio_vae": {"model": {"params": {}}}}, "does not tell how its audio_vae"),
        ("audio_vae", {"audio_vae": {"preprocessing": []}}, "does not tell how its audio_vae"),
        ("vocoder", {"vocoder": {"bwe": {"resblock": "1"}}}, "resblock = 1"),
        ("vocoder", {"vocoder": {"vocoder": None}}, "does not tell how its vocoder"),
    ],
)
def test_settings_that_cannot_be_run_are_named(
    tmp_path: Path, part: PartName, change: dict[str, Any], reason: str
) -> None:
    config = copy.deepcopy(small_ltx2_configs.PUBLISHED)
    for name, settings in change.items():
        config[name] |= settings
    with pytest.raises(BadCheckpoint, match=reason):
        load(open_part(part, small_ltx2.write_single(tmp_path / "x", config)), dtype=torch.float32)


@pytest.mark.parametrize("part", PARTS)
def test_without_a_config_nothing_is_guessed(tmp_path: Path, part: PartName) -> None:
    with pytest.raises(BadCheckpoint, match="`config` does not tell"):
        open_part(part, small_ltx2.write_single(tmp_path / "x", config=None))


@pytest.mark.parametrize("config", ["[]", "{", '{"vocoder": 3}', '{"audio_vae": []}', "9" * 5000])
def test_a_broken_config(tmp_path: Path, config: str) -> None:
    save_file({"vocoder.x": torch.ones(1)}, tmp_path / "x", {"config": config})
    with pytest.raises(BadCheckpoint, match="not a sound JSON object"):
        open_part("vocoder", tmp_path / "x")


def test_strange_missing_and_repeated_weights(tmp_path: Path) -> None:
    one = torch.ones(1)
    with pytest.raises(BadCheckpoint, match=r"1 weights of no known part: duration_head\.x"):
        open_part("vae", small_ltx2.write_single(tmp_path / "x", extra={"duration_head.x": one}))
    scaled = small_ltx2.write_single(tmp_path / "x", extra={"model.diffusion_model.proj_out.weight_scale": one})
    with pytest.raises(BadCheckpoint, match="which is no scale of a weight in 8-bit floats"):
        load(open_part("transformer", scaled), dtype=torch.float32)
    twice = small_ltx2.write_single(tmp_path / "x", extra={"model.diffusion_model.proj_in.weight": one})
    with pytest.raises(BadCheckpoint, match="are the same one"):
        open_part("transformer", twice)
    only = {name: tensor for name, tensor in load_file(tmp_path / "x").items() if name.startswith("vocoder.")}
    save_file(only, tmp_path / "x", {"config": json.dumps(small_ltx2_configs.PUBLISHED)})
    with pytest.raises(BadCheckpoint, match="holds no connectors"):
        open_part("connectors", tmp_path / "x")
    only.pop("vocoder.vocoder.conv_pre.weight")
    save_file(only, tmp_path / "x", {"config": json.dumps(small_ltx2_configs.PUBLISHED)})
    with pytest.raises(BadCheckpoint, match="does not tell how its vocoder"):
        open_part("vocoder", tmp_path / "x")


@pytest.mark.parametrize("sees", [False, True])
def test_gemma_as_published_is_what_transformers_loads(tmp_path: Path, sees: bool) -> None:
    from transformers import Gemma3ForCausalLM, Gemma3ForConditionalGeneration

    small_ltx2.write_text(tmp_path, sees=sees)
    cls: Any = Gemma3ForConditionalGeneration if sees else Gemma3ForCausalLM
    expected = cls.from_pretrained(tmp_path / "text_encoder", dtype=torch.float32)
    got = load(open_part("text_encoder", tmp_path / "text_encoder"), dtype=torch.float32)
    assert type(got) is cls
    assert small.same(got.state_dict(), expected.state_dict())
    assert small.same(dict(got.named_buffers()), dict(expected.named_buffers())), "also what no file keeps"
    assert got.lm_head.weight is got.get_input_embeddings().weight  # type: ignore[operator, union-attr]


def test_gemma_in_the_newer_layout_is_the_same(tmp_path: Path) -> None:
    file = small_ltx2.write_text(tmp_path, sees=True) / "text_encoder" / "model.safetensors"
    published = {
        name.replace("vision_tower.", "vision_tower.vision_model."): value for name, value in load_file(file).items()
    }
    assert any(name.startswith("language_model.model.") for name in published)
    save_file(published, file)
    before = load(open_part("text_encoder", file.parent), dtype=torch.float32)
    save_file({gemma_key(name): tensor for name, tensor in published.items()}, file)
    after = load(open_part("text_encoder", file.parent), dtype=torch.float32)
    assert small.same(before.state_dict(), after.state_dict())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, "is of class LlamaForCausalLM, not T5EncoderModel or Gemma3"),
        ({"architectures": "Gemma3ForCausalLM"}, "is of class None"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers = 1000000"),
        ({"layer_types": ["full_attention"] * 10**5}, "100000 entries in layer_types"),
        ({"rope_parameters": {"full_attention": {"rope_theta": {"a": 2**40}}}}, "a = 1099511627776"),
        ({"hidden_size": 32}, "of another shape"),
    ],
)
def test_gemmas_that_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = small_ltx2.write_text(tmp_path) / "text_encoder"
    config_of_folder = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config_of_folder | change))
    with pytest.raises(BadCheckpoint, match=reason):
        load(open_part("text_encoder", folder), dtype=torch.float32)


def test_a_deeply_nested_configuration_is_refused(tmp_path: Path) -> None:
    folder = small_ltx2.write_text(tmp_path) / "text_encoder"
    nested: Any = 1
    for _ in range(50):
        nested = {"a": nested}
    config_of_folder = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config_of_folder | {"extra": nested}))
    with pytest.raises(BadCheckpoint, match="entries in a"):
        empty_model(open_part("text_encoder", folder))


def test_a_part_of_the_other_family_does_not_pass_for_this_one(tmp_path: Path, single: Path) -> None:
    older = open_part("transformer", small.write_single(tmp_path / "x"))
    assert older.cls[1] == "LTXVideoTransformer3DModel"
    assert open_part("transformer", single).cls[1] == "LTX2VideoTransformer3DModel"
    assert not compare(older, small_ltx2.model("transformer")).are_none


def test_what_a_header_leaves_out_is_as_in_the_reference() -> None:
    reported = {"transformer": {"caption_proj_before_connector": True, "apply_gated_attention": True}}
    config = layout_ltx2.config_of("transformer", reported, {})
    assert (config["num_layers"], config["cross_attention_dim"], config["audio_cross_attention_dim"]) == (
        48,
        4096,
        2048,
    )
    assert (config["vae_scale_factors"], config["rope_double_precision"]) == ([8, 32, 32], False)
    sound = {
        "audio_vae": {
            "model": {"params": {"ddconfig": {}}},
            "preprocessing": {"stft": {}, "mel": {"n_mel_channels": 64}},
        }
    }
    config = layout_ltx2.config_of("audio_vae", sound, {})
    assert (config["base_channels"], config["latent_channels"], config["mel_bins"]) == (128, 8, 64)
