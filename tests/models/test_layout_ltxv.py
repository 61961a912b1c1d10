"""Published names and settings become those of diffusers' classes."""

from typing import Any

import pytest

from longtake.errors import BadCheckpoint
from longtake.models import layout_ltxv
from longtake.models.transformer_keys import transformer_key
from tests.models.small import PUBLISHED, TRANSFORMER, VAE


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("patchify_proj.weight", "proj_in.weight"),
        ("adaln_single.emb.timestep_embedder.linear_1.bias", "time_embed.emb.timestep_embedder.linear_1.bias"),
        ("transformer_blocks.3.attn1.q_norm.weight", "transformer_blocks.3.attn1.norm_q.weight"),
        ("transformer_blocks.3.attn2.k_norm.weight", "transformer_blocks.3.attn2.norm_k.weight"),
        ("transformer_blocks.3.attn2.to_out.0.weight", "transformer_blocks.3.attn2.to_out.0.weight"),
        ("scale_shift_table", "scale_shift_table"),
    ],
)
def test_transformer_key(published: str, ours: str) -> None:
    assert transformer_key(published) == ours


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("encoder.conv_in.conv.weight", "encoder.conv_in.conv.weight"),
        ("encoder.down_blocks.0.res_blocks.2.conv1.conv.bias", "encoder.down_blocks.0.resnets.2.conv1.conv.bias"),
        ("encoder.down_blocks.3.conv.conv.bias", "encoder.down_blocks.1.downsamplers.0.conv.conv.bias"),
        ("encoder.down_blocks.8.res_blocks.0.conv1.conv.bias", "encoder.mid_block.resnets.0.conv1.conv.bias"),
        ("decoder.up_blocks.0.res_blocks.0.scale_shift_table", "decoder.mid_block.resnets.0.scale_shift_table"),
        ("decoder.up_blocks.5.conv.conv.weight", "decoder.up_blocks.2.upsamplers.0.conv.conv.weight"),
        ("decoder.up_blocks.6.res_blocks.1.conv2.conv.bias", "decoder.up_blocks.2.resnets.1.conv2.conv.bias"),
        ("decoder.last_scale_shift_table", "decoder.scale_shift_table"),
        ("decoder.last_time_embedder.a", "decoder.time_embedder.a"),
        ("decoder.up_blocks.2.time_embedder.a", "decoder.up_blocks.0.time_embedder.a"),
        ("decoder.timestep_scale_multiplier", "decoder.timestep_scale_multiplier"),
        ("per_channel_statistics.mean-of-means", "latents_mean"),
        ("per_channel_statistics.std-of-means", "latents_std"),
        ("per_channel_statistics.channel", None),
        ("per_channel_statistics.mean-of-stds_over_std-of-means", None),
        ("per_channel_statistics.novel", "per_channel_statistics.novel"),
    ],
)
def test_vae_key(published: str, ours: str | None) -> None:
    assert layout_ltxv.vae_key(published) == ours


def test_settings_of_a_small_model() -> None:
    assert layout_ltxv.transformer_config(PUBLISHED["transformer"]) == layout_ltxv.TRANSFORMER_13B | TRANSFORMER
    config = layout_ltxv.vae_config(PUBLISHED["vae"])
    assert {name: config[name] for name in VAE} == VAE


def test_settings_absent_are_those_of_the_13b() -> None:
    assert layout_ltxv.transformer_config({}) == layout_ltxv.TRANSFORMER_13B
    assert layout_ltxv.vae_config({}) == layout_ltxv.VAE_13B


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("transformer", {"positional_embedding_theta": 5000.0}),
        ("transformer", {"causal_temporal_positioning": False}),
        ("transformer", {"qk_norm": None}),
        ("vae", {"norm_layer": "group_norm"}),
        ("vae", {"encoder_blocks": []}),
        ("vae", {"encoder_blocks": "res_x"}),
        ("vae", {"encoder_blocks": [["attn_res_x", {"num_layers": 1}]]}),
        ("vae", {"encoder_blocks": [["res_x", 4]]}),
        ("vae", {"decoder_blocks": [["res_x", {"num_layers": 1}], ["up", {}], ["res_x", {"num_layers": 1}]]}),
        ("vae", {"encoder_blocks": [["res_x", {"num_layers": 1}], ["compress_all", {}], ["res_x", {"num_layers": 1}]]}),
    ],
)
def test_settings_that_the_classes_do_not_have_are_refused(part: str, change: dict[str, Any]) -> None:
    convert = {"transformer": layout_ltxv.transformer_config, "vae": layout_ltxv.vae_config}[part]
    with pytest.raises(BadCheckpoint, match=next(iter(change))):
        convert(PUBLISHED[part] | change)
