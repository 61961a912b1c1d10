"""The memory of the simulated GPUs: host memory that torch takes for memory of a GPU."""

import ctypes
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

HOST, GPU = 1, 2
"""The numbers of the two kinds of devices in DLPack."""

_CPU, _CUDA = 0, 1
"""The numbers of the two kinds of devices in torch."""

_FLOATS_OF_8_BITS = {torch.float8_e4m3fn, torch.float8_e5m2}
"""Dtypes that DLPack does not have in all versions of torch. Such tensors cross it as bytes."""


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int), ("index", ctypes.c_int))


class _Managed(ctypes.Structure):
    """The beginning of the structure `DLManagedTensor` of DLPack."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
    )


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def on_host(tensor: Tensor) -> Tensor:
    """Returns a tensor in host memory that shares the memory of a tensor on a simulated GPU."""
    return _exchanged(tensor, HOST, 0)


def on_gpu(tensor: Tensor, index: int, on_free: Callable[[int], None]) -> Tensor:
    """Returns a tensor on a simulated GPU that shares the memory of a tensor in host memory.

    on_free: called with the address of the memory when nothing refers to it any more.
    """
    moved = _exchanged(tensor, GPU, index)
    weakref.finalize(tensor, on_free, address(moved))
    return moved


def _exchanged(tensor: Tensor, kind: int, index: int) -> Tensor:
    dtype = tensor.dtype
    plain = tensor.view(torch.uint8) if dtype in _FLOATS_OF_8_BITS else tensor
    capsule = torch._C._to_dlpack(plain)
    managed = _Managed.from_address(_pointer(capsule, b"dltensor"))
    managed.device.kind, managed.device.index = kind, index
    exchanged: Tensor = torch._C._from_dlpack(capsule)
    return exchanged if plain is tensor else exchanged.view(dtype)


def address(tensor: Tensor) -> int:
    """Returns the address of the memory that a tensor shares with its views; 0 for a tensor without values."""
    return tensor.untyped_storage().data_ptr()


def present_as_devices(*, is_present: bool) -> None:
    """Makes torch accept GPUs as devices, or not any more.

    Torch asks a registered object to switch between GPUs. That of the CPU does nothing, which is right here.
    """
    registry = (ctypes.c_void_p * (GPU + 1)).in_dll(
        ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so")),
        "_ZN3c104impl26device_guard_impl_registryE",
    )
    registry[_CUDA] = registry[_CPU] if is_present else None
