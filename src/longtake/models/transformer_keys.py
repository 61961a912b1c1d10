"""Turns published names of the transformers' modules and weights into the names of diffusers' classes. Needs no torch.

The single files and LoRAs of all LTX models use the same names, so one table is enough.
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

_PUBLISHED: Mapping[str, str] = {ours: published for published, ours in _WORDS.items()}


def transformer_key(key: str) -> str:
    """Returns diffusers' name of a weight or module of the transformer.

    key: its published name, without a prefix such as `model.diffusion_model.`. Parts of it that have the same name in
        diffusers' class stay.
    """
    return reworded(key, _WORDS)


def published_key(key: str) -> str:
    """Returns the published name of a weight or module of the transformer, without a prefix.

    key: its name in diffusers' class.
    """
    return reworded(key, _PUBLISHED)


def flat(key: str) -> str:
    """Returns a module's name with underscores for dots, as some trainers write it."""
    return key.replace(".", "_")


def reworded(key: str, words: Mapping[str, str]) -> str:
    """Returns `key` with its dot-separated words translated by `words`. A word that is not in `words` stays."""
    return ".".join(words.get(word, word) for word in key.split("."))
