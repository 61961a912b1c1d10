"""Makes the initial LTX-2 transformer from the LTX-Video one. Its video stream gives the old transformer's results.

The parts that only LTX-2 has start without effect: the heads' gates are 1, the text tokens are not modulated, and the
attention from sound to video is 0. So the audio stream does not change the video.

An LTX-Video transformer with more layers gives only those that it had when it was shallow; then the results differ.

The order of a head's numbers changes: the two numbers of a rotary pair are adjacent in the old transformer, and half a
head apart in the new one.
"""

import re
from typing import Any

import torch
from diffusers import LTX2VideoTransformer3DModel

from recipes.tiny import configs as first
from recipes.tiny_av import configs

SEED = 130_000_000
HEAD = configs.VIDEO_WIDTH // configs.HEADS
ZERO = (
    r"gate_logits|cross_attn_scale_shift_table|prompt_scale_shift_table",
    r"^(av_cross_attn_\w+|prompt_adaln|audio_prompt_adaln)\.linear|^audio_proj_out",
    r"audio_to_video_attn\.to_out",
)
"""Patterns of the names of weights that start at 0, so that their layers have no effect."""
SMALL = r"(audio_attn\d\.to_out\.0|audio_ff\.net\.2)\.weight$"
"""Pattern of the names of the last weights in the audio stream's residual branches, which start small."""
TEXT = ("attn2.to_k.weight", "attn2.to_k.bias", "attn2.to_v.weight", "attn2.to_v.bias")


def split(rows: torch.Tensor) -> torch.Tensor:
    """Returns the rows `[heads * d, ...]` of a query's or key's weight in the order of the new transformer.

    In each head, the first numbers of all rotary pairs come first, then the second numbers.
    """
    halves: torch.Tensor = rows.unflatten(0, (configs.HEADS, HEAD // 2, 2)).transpose(1, 2)
    return halves.flatten(0, 2)


def transformer(old: Any, basis: torch.Tensor, centre: torch.Tensor) -> Any:
    """Returns the LTX-2 transformer that is made from an `LTXVideoTransformer3DModel`.

    basis, centre: `[D, D]` and `[D]`. A new text token z stands for the old text token centre + basis @ z.
    """
    torch.manual_seed(SEED)
    new: Any = LTX2VideoTransformer3DModel(**configs.TRANSFORMER)
    with torch.no_grad():
        for name, parameter in new.named_parameters():
            if any(re.search(pattern, name) for pattern in ZERO):
                parameter.zero_()
            if re.search(SMALL, name):
                parameter.mul_(0.3)
        for block in new.transformer_blocks:
            block.video_a2v_cross_attn_scale_shift_table[4] = 1.0
            block.audio_a2v_cross_attn_scale_shift_table[4] = 1.0
            block.audio_scale_shift_table[6:] = torch.tensor([0.0, 0.0, 1.0])[:, None]
        for part in ("proj_in", "proj_out", "time_embed.emb"):
            new.get_submodule(part).load_state_dict(old.get_submodule(part).state_dict())
        new.scale_shift_table.copy_(old.scale_shift_table)
        new.audio_time_embed.linear.weight.mul_(0.2)
        known = 6 * configs.VIDEO_WIDTH
        new.time_embed.linear.weight.zero_()[:known] = old.time_embed.linear.weight
        new.time_embed.linear.bias.zero_()[:known] = old.time_embed.linear.bias
        is_deeper = len(old.transformer_blocks) > len(new.transformer_blocks)
        kept = [old.transformer_blocks[number] for number in first.KEPT_LAYERS] if is_deeper else old.transformer_blocks
        for was, now in zip(kept, new.transformer_blocks, strict=True):
            _block(was.state_dict(), dict(now.named_parameters()), basis, centre)
    return new


def _block(
    was: dict[str, torch.Tensor], now: dict[str, torch.Tensor], basis: torch.Tensor, centre: torch.Tensor
) -> None:
    for name, value in was.items():
        if name.startswith("attn1") and (".to_q." in name or ".to_k." in name or ".norm_" in name):
            now[name].copy_(split(value))
        elif name == "scale_shift_table":
            now[name][:6] = value
            now[name][6:] = torch.tensor([0.0, 0.0, 1.0])[:, None]
        elif name not in TEXT:
            now[name].copy_(value)
    for part in ("to_k", "to_v"):
        weight, bias = was[f"attn2.{part}.weight"], was[f"attn2.{part}.bias"]
        now[f"attn2.{part}.weight"].copy_(weight @ basis)
        now[f"attn2.{part}.bias"].copy_(bias + weight @ centre)
