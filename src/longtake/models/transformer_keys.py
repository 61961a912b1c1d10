"""Renames the transformers' published modules and weights to those of diffusers' classes. Without torch.

Single files and LoRAs of all LTX models use the same names, so one table serves them all.
"""

from collections.abc import Mapping

_WORDS: Mapping[str, str] = {
    "patchify_proj": "proj_in",
    "audio_patchify_proj": "audio_proj_in",
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
    "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
    "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
    "q_norm": "norm_q",
    "k_norm": "norm_k",
}


def transformer_key(key: str) -> str:
    """Returns diffusers' name of a published transformer weight or module. The key has no prefix."""
    return reworded(key, _WORDS)


def reworded(key: str, words: Mapping[str, str]) -> str:
    """Returns the key with its dot-separated words replaced as in `words`. Other words stay."""
    return ".".join(words.get(word, word) for word in key.split("."))
