"""Streams a model's part: its layers are on the device only while they run, and are in host memory otherwise.

diffusers' group offloading does the copying. A group is a block of the transformer, or a single layer.
"""

from typing import Any

import torch
from torch import Tensor, nn

BLOCKS_PER_GROUP = 1
"""The number of transformer blocks that are copied to the device at once."""

_HOOK = "group_offloading"
"""The name of diffusers' hook in the modules that it copies to the device."""


def stream(part: nn.Module, device: torch.device, *, by_block: bool, pinned: bool) -> None:
    """Adds hooks that move the layers of a model's part to the device while they run. On a CUDA GPU, the weights of the
    next layer are copied while a layer runs, on a stream of their own.

    by_block: True moves whole blocks; False moves each layer by itself.
    pinned: True if the weights are pinned now; False copies them through a pinned buffer each time.
    """
    from diffusers.hooks import apply_group_offloading

    has_streams = device.type == "cuda"
    if pinned and has_streams:
        _pin(part)
    apply_group_offloading(
        part,
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level" if by_block else "leaf_level",
        num_blocks_per_group=BLOCKS_PER_GROUP if by_block else None,
        use_stream=has_streams,
        # A recorded stream would let the host run ahead of the device, because copies are faster than the layers. Then
        # all weights would be on the device after all.
        record_stream=False,
        low_cpu_mem_usage=not pinned,
    )


def _pin(part: nn.Module) -> None:
    """Moves the weights of a model's part to pinned memory, one at a time, so that at most one is in memory twice."""
    for tensor in (*part.parameters(), *part.buffers()):
        tensor.data = tensor.data.pin_memory()


class StreamedTensors:
    """Tensors that are copied to the device together, before they are used, and freed there afterwards.

    hook: diffusers' hook of the module whose weights are in the group.
    """

    def __init__(self, hook: Any) -> None:
        self._group = hook.group

    @property
    def device(self) -> torch.device:
        """The device on which the tensors are used."""
        device: torch.device = self._group.onload_device
        return device

    def add(self, tensor: Tensor) -> None:
        """Adds a tensor in host memory to the group. From then on `tensor.data` is on the device while it is needed."""
        self._group.parameters.append(tensor)
        self._group.cpu_param_dict[tensor] = tensor.data

    def remove(self, tensor: Tensor) -> None:
        """Removes a tensor that was added."""
        self._group.parameters = [one for one in self._group.parameters if one is not tensor]
        del self._group.cpu_param_dict[tensor]


def group_of(part: nn.Module, layer: str) -> StreamedTensors | None:
    """Returns the group of a layer; None if the part is not streamed.

    part: a part of a model, such as the transformer.
    layer: the name of the layer in the part.
    """
    names = layer.split(".")
    for length in range(len(names), -1, -1):
        hook = _hook_of(part.get_submodule(".".join(names[:length])))
        if hook is not None:
            return StreamedTensors(hook)
    return None


def is_streamed(part: nn.Module) -> bool:
    """Returns True if a part of a model is streamed."""
    return any(_hook_of(module) is not None for module in part.modules())


def _hook_of(module: nn.Module) -> Any | None:
    """Returns diffusers' hook of the module at which a group begins; None for any other module."""
    hooks: Any = getattr(module, "_diffusers_hook", None)
    return None if hooks is None else hooks.get_hook(_HOOK)
