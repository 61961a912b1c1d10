"""Keeps a module's weights in host memory, and copies them to the device for as long as they are needed there."""

import torch
from torch import Tensor, nn


class HostCopies:
    """The weights of a module in host memory. They never change there, and nothing is copied back from the device.

    module: the module, in host memory. Its weights stay there until `onload` is called.
    device: the device on which the module runs.
    pinned: True if the weights are moved to pinned memory now. Then they are copied about three times as fast, and the
        host does not wait for it.
    """

    def __init__(self, module: nn.Module, device: torch.device, *, pinned: bool) -> None:
        self._device = device
        self._pairs: list[tuple[Tensor, Tensor]] = []
        for tensor in (*module.parameters(), *module.buffers()):
            # One after the other, so that never more than one of them is in host memory twice.
            copy = tensor.data.pin_memory() if pinned else tensor.data
            tensor.data = copy
            self._pairs.append((tensor, copy))
        self._is_there = False

    def onload(self) -> bool:
        """Copies the weights to the device, if they are not there. Does not wait for the copies to end, but work that
        is started on the device later runs after them. Returns True if it has copied them. If the device has no room
        for all of them, none is there afterwards."""
        if self._is_there:
            return False
        self._is_there = True
        try:
            # Weights that were made in inference mode could not be used outside it.
            with torch.inference_mode(False):
                for tensor, copy in self._pairs:
                    tensor.data = copy.to(self._device, non_blocking=True, copy=True)
        except BaseException:
            self.release()
            raise
        return True

    def release(self) -> None:
        """Frees the weights on the device, if they are there. The module's weights are then the copies in host memory
        again, so changes that were made on the device are lost."""
        if self._is_there:
            self._is_there = False
            for tensor, copy in self._pairs:
                tensor.data = copy
