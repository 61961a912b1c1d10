"""Tells which published models fit on a device, and with which settings, by their weights and the total memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from longtake.cli.console import bytes_text
from longtake.models import memory
from longtake.models.budget import Memories
from longtake.models.fp8 import Mode
from longtake.models.placement import Room, placed

GB = 10**9


@dataclass(frozen=True)
class SizedModel:
    """A published model, with the bytes of its weights. docs/checkpoints.md lists the same numbers.

    name: the model's name in texts for the user.
    transformer: way to use 8-bit floats ("none", "storage" or "products") -> the bytes of the transformer. Weights that
        are not in 8 bits are in bfloat16.
    short_text: the bytes of the text encoder with weights stored as 8-bit floats.
    others: the bytes of each other part of the model, such as the VAE, in bfloat16. The audio autoencoder includes the
        vocoder.
    """

    name: str
    transformer: Mapping[Mode, int]
    short_text: int
    others: Mapping[str, int]

    def sizes(self, mode: Mode, has_short_text: bool = False) -> dict[str, int]:
        """Returns the bytes of each part of the model (such as the VAE), by the part's name.

        mode: how the transformer uses 8-bit floats.
        has_short_text: True if the text encoder's weights are stored as 8-bit floats.
        """
        short = {"text_encoder": self.short_text} if has_short_text else {}
        return {"transformer": self.transformer[mode], **self.others, **short}


PUBLISHED = (
    SizedModel(
        "LTX-Video 13B",
        {"none": 261 * GB // 10, "storage": 132 * GB // 10, "products": 168 * GB // 10},
        59 * GB // 10,
        {"text_encoder": 95 * GB // 10, "vae": 25 * GB // 10, "upsampler": GB // 4},
    ),
    SizedModel(
        "LTX-2.3",
        {"none": 38 * GB, "storage": 195 * GB // 10, "products": 241 * GB // 10},
        136 * GB // 10,
        {
            "text_encoder": 244 * GB // 10,
            "connectors": 63 * GB // 10,
            "vae": 15 * GB // 10,
            "upsampler": GB,
            "audio_vae": 7 * GB // 10,
        },
    ),
)
"""The published models, one of each size, for which `fitting` says how they run on a GPU. The numbers are bytes of
weights. The transformer has three: without 8-bit floats ("none"), with weights stored as 8-bit floats ("storage"), and
with products computed in 8-bit floats ("products")."""


def fitting(model: SizedModel, mode: Mode, memories: Memories, *, are_several: bool = False) -> str:
    """Returns how a model runs with `LONGTAKE_OFFLOAD=auto` on a GPU that nothing else uses, as a text for the user.

    mode: how transformers use 8-bit floats on this GPU with `LONGTAKE_QUANTISE=fp8`.
    memories: the total memory of the GPU and of the host.
    are_several: True if other GPUs of this kind work together with it, and the text is about the first one.
    """
    wanted: tuple[Mode, Mode] = ("none", mode)
    plain, narrow = (_placed(model, each, memories, are_several=are_several) for each in wanted)
    return f"{plain}; with LONGTAKE_QUANTISE=fp8: {narrow}"


def in_host(model: SizedModel, host: int | None, *, bytes_each: int) -> str:
    """Returns whether a model fits on a device that shares the host's memory, as a text for the user.

    host: the bytes of the host's memory; None if they are not known.
    bytes_each: the bytes of a number: 2 in bfloat16, 4 in float32.
    """
    need = sum(model.sizes("none").values()) * bytes_each // 2
    weights = f"{bytes_text(need)} of weights"
    if host is None:
        return weights
    fits = need + memory.reserve(need) <= host
    return f"{weights} {'fit' if fits else 'do not fit'} into {bytes_text(host)} of memory"


def _placed(model: SizedModel, wanted: Mode, memories: Memories, *, are_several: bool) -> str:
    """Returns a text that says where the weights of a model are while it runs, such as `38.0 GB stay on it` (the GPU).

    wanted: how the transformer uses 8-bit floats if the GPU has room for it.
    memories: the total memory of the GPU and of the host.
    are_several: True if other GPUs work together with it, so that each must hold the whole transformer.
    """
    room = Room((torch.device("cuda"),), memories, (memories.device,))
    placement = placed(room, torch.bfloat16, model.sizes, wanted, "auto")
    need = sum(placement.sizes.values())
    if placement.offload == "none":
        return f"{bytes_text(need)} stay on it" + (", the text encoder only while it runs" if placement.leaving else "")
    if memories.host is not None and need > memories.host:
        return f"does not fit, because {bytes_text(need)} of host memory are needed"
    streamed = placement.streamed
    if are_several and "transformer" in streamed:
        return "does not fit, because GPUs that work together must hold the whole transformer"
    names = " and ".join(f"its {part.replace('_', ' ')}" for part in streamed)
    way = f"{names} {'is' if len(streamed) == 1 else 'are'} streamed" if streamed else "one part at a time is on it"
    return f"{way} ({bytes_text(need)} of host memory)"
