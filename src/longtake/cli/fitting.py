"""Tells which published models fit on a device, and with which settings, by their weights and the total memory."""

from collections.abc import Mapping

from longtake.cli.console import bytes_text
from longtake.models import memory
from longtake.models.budget import Memories, text_leaves

GB = 10**9

SIZES: Mapping[str, Mapping[str, int]] = {
    "LTX-Video 13B": {
        "transformer": 261 * GB // 10,
        "text_encoder": 95 * GB // 10,
        "vae": 25 * GB // 10,
        "upsampler": GB // 4,
    },
    "LTX-2.3": {
        "transformer": 38 * GB,
        "text_encoder": 244 * GB // 10,
        "connectors": 63 * GB // 10,
        "vae": 15 * GB // 10,
        "upsampler": GB,
        "audio_vae": 7 * GB // 10,
    },
}
"""The bytes of each part of the published models in bfloat16, as docs/checkpoints.md lists them. The audio autoencoder
includes the vocoder."""


def fitting(sizes: Mapping[str, int], memories: Memories) -> str:
    """Returns how a model runs with `LONGTAKE_OFFLOAD=auto` on a GPU that nothing else uses, as a text for the user.

    sizes: the bytes of each part of the model in bfloat16.
    memories: the total memory of the GPU and of the host.
    """
    narrow = {**sizes, "transformer": sizes["transformer"] // 2}
    return f"{_placed(sizes, memories)}; with LONGTAKE_QUANTISE=fp8: {_placed(narrow, memories)}"


def _placed(sizes: Mapping[str, int], memories: Memories) -> str:
    """Returns where the weights of a model are while it runs, for models with `sizes` bytes in each part."""
    need = sum(sizes.values())
    offload = memory.choose_offload("auto", sizes, memories.device, memories.device)
    if offload == "none":
        leaves = text_leaves(sizes, memories)
        return f"{bytes_text(need)} stay on it" + (", the text encoder only while it runs" if leaves else "")
    if memories.host is not None and need > memories.host:
        return f"does not fit, because {bytes_text(need)} of host memory are needed"
    ways = {"model": "one part at a time is on it", "group": "is streamed block by block"}
    return f"{ways[offload]} ({bytes_text(need)} of host memory)"
