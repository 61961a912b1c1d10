"""Reads LoRAs into host memory: those that a request names, and the model's own adapters.

A LoRA changes the weight W of a linear layer to W + scale * (alpha / rank) * B A. The request sets `scale`. `alpha` and
`rank` come from the LoRA's file; if the file has no alpha, alpha / rank is 1. `applying.py` applies LoRAs.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from cachetools import LRUCache

from longtake.errors import BadCheckpoint, FileTooLarge, InvalidRequest, Loc
from longtake.models import lora_fit, registry
from longtake.models.lora_files import LARGEST_TOGETHER, NO_SOURCES, LoraFile, LoraSources, open_lora
from longtake.models.lora_header import LoraHeader, Shapes, read_lora_header
from longtake.models.lora_keys import Side
from longtake.models.lora_names import Lora
from longtake.models.registry import ModelCard
from longtake.models.safe import shown_name
from longtake.plans import PlannedAdapter, shortened_url
from longtake.settings import Settings
from longtake.video import Check, no_check

SIDES: tuple[Side, Side] = ("A", "B")
"""The matrices of a module, in the order of their shapes in `LoraHeader.shapes`."""

PIECE_VALUES = 2**24
"""The largest number of values of a tensor that are copied between two calls of a `check` function."""


@dataclass(frozen=True)
class Pair:
    """The change of one linear layer's weight: factor * b @ a.

    a: [rank, in] in host memory, in the dtype of the file.
    b: [out, rank] in host memory, in the dtype of the file.
    factor: alpha / rank.
    """

    a: torch.Tensor
    b: torch.Tensor
    factor: float = 1.0


@dataclass(frozen=True)
class OpenAdapter:
    """A LoRA whose header was read, but not its tensors.

    planned: the LoRA with its scales, as the plan of the video names it.
    file: its file, which can be read while the LoRA is open.
    header: its header.
    """

    planned: PlannedAdapter
    file: LoraFile
    header: LoraHeader

    def check_fit(self, transformer: torch.nn.Module) -> None:
        """Raises `InvalidRequest`, with the field of the request, if the LoRA does not fit a transformer."""
        lora_fit.check_fit(self.header, transformer, self.planned.field)


@dataclass(frozen=True)
class Adapter:
    """A LoRA in host memory.

    name: the LoRA's name for messages.
    pairs: module -> its change. Modules are named as in `lora_keys.LoraKey`.
    loc: the path of the request's field that named the LoRA, for errors; None if no request named it.
    """

    name: str
    pairs: Mapping[str, Pair]
    loc: Loc | None = None

    @property
    def num_bytes(self) -> int:
        return sum(pair.a.nbytes + pair.b.nbytes for pair in self.pairs.values())

    @property
    def shapes(self) -> Shapes:
        """The shapes of the matrices: module -> (shape of A, shape of B)."""
        return {module: (tuple(pair.a.shape), tuple(pair.b.shape)) for module, pair in self.pairs.items()}


def read(path: Path, header: LoraHeader | None = None, check: Check = no_check, *, pinned: bool = False) -> Adapter:
    """Reads a LoRA file into host memory. `header` is its header; with None it is read from the file.

    A tensor `alpha` in the file takes precedence over an alpha in the metadata.

    check: called again and again while tensors are read, which takes seconds for large files. It may raise an exception
        to end the reading.
    pinned: True reads into pinned memory, from which a CUDA GPU copies about three times as fast.

    Raises `BadCheckpoint` for values that are not finite, and for the reasons that `read_lora_header` lists.
    """
    from safetensors import SafetensorError, safe_open

    header = header or read_lora_header(path)
    pairs = {}
    with safe_open(path, framework="pt") as file:

        def tensor(name: str) -> torch.Tensor:
            try:
                return file.get_tensor(name)  # type: ignore[no-any-return]
            except SafetensorError:
                raise _changed(header) from None

        for module, keys in header.keys.items():
            a, b = (
                _finite_copy(header, module, tensor(keys[side]), shape, check, pinned)
                for side, shape in zip(SIDES, header.shapes[module], strict=True)
            )
            alpha = tensor(keys["alpha"]).item() if "alpha" in keys else header.alphas[module]
            factor = 1.0 if alpha is None else alpha / a.shape[0]
            if not math.isfinite(factor):
                raise _not_finite(header, module)
            pairs[module] = Pair(a, b, factor)
    return Adapter(header.name, pairs)


def _finite_copy(
    header: LoraHeader, module: str, stored: torch.Tensor, shape: Sequence[int], check: Check, pinned: bool
) -> torch.Tensor:
    """Returns a copy of a module's matrix. The copy stays the same if the LoRA's file changes later.

    header, module: the LoRA and the module's name, for the error.
    stored: the matrix as it is stored in the file.
    shape: the shape of the copy.
    check: called before each piece of the matrix is copied. It may raise an exception to end the work.
    pinned: True if the copy is in pinned memory.
    Raises `BadCheckpoint` for values that are not finite, or for another number of values than `header` says.
    """
    if stored.numel() != math.prod(shape):
        raise _changed(header)
    copy = torch.empty(stored.numel(), dtype=stored.dtype, pin_memory=pinned)
    for piece, source in zip(copy.split(PIECE_VALUES), stored.flatten().split(PIECE_VALUES), strict=True):
        check()
        piece.copy_(source)
        if not piece.float().isfinite().all():
            raise _not_finite(header, module)
    return copy.reshape(shape)


def _changed(header: LoraHeader) -> BadCheckpoint:
    return BadCheckpoint(f"{header.name} was changed while the request ran.")


def _not_finite(header: LoraHeader, module: str) -> BadCheckpoint:
    return BadCheckpoint(f"{header.name} has values for {shown_name(module)} that are not finite.")


LoadedAdapter = tuple[Adapter, tuple[float, ...]]
"""An adapter in host memory, and its scale in each pass: in the first and in the second one."""


class LoraCache:
    """A cache of adapters, which holds up to `max_bytes` bytes of host memory and drops the least recently used ones.

    A file whose modification time or size has changed is read again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._adapters: LRUCache[Any, Adapter] = LRUCache(max_bytes, getsizeof=lambda adapter: adapter.num_bytes)

    def read(self, file: LoraFile, header: LoraHeader, check: Check = no_check, *, pinned: bool = False) -> Adapter:
        """Returns the adapter in a file, from the cache if it is there. A temporary file is not cached.

        header: the file's header.
        check: called again and again while the file is read. It may raise an exception to end the reading.
        pinned: True reads an adapter that fits into the cache into pinned memory.

        Raises `BadCheckpoint` for a file that is no supported LoRA, and for values that are not finite.
        """
        if file.is_temporary:
            return read(file.path, header, check)
        stat = file.path.stat()
        key = (file.path, file.name, stat.st_mtime_ns, stat.st_size)
        if key not in self._adapters:
            adapter = read(file.path, header, check, pinned=pinned and stat.st_size <= self._adapters.maxsize)
            if adapter.num_bytes > self._adapters.maxsize:
                return adapter
            self._adapters[key] = adapter
        return self._adapters[key]


@contextmanager
def open_adapters(
    planned: Sequence[PlannedAdapter], card: ModelCard, settings: Settings, sources: LoraSources = NO_SOURCES
) -> Iterator[list[OpenAdapter]]:
    """Context manager that finds the planned adapters, reads their headers, and yields them in the same order.

    planned: each is one of the model's own adapters, or a LoRA that the request names.
    card: the card of the model.
    sources: where a LoRA that the request names is looked for, besides the LoRA folder and the hub: for example, the
        function that downloads a URL.

    Raises these errors:
    - `InvalidRequest`, with the field of the request: a LoRA that the request names cannot be found or read.
    - `DownloadFailed` and `FileTooLarge`: such a LoRA cannot be downloaded.
    - `FileTooLarge`: such LoRAs have too many bytes together (see LARGEST_TOGETHER).
    - `NotSupported`: an adapter of the model is unknown or not on this machine.
    - `BadCheckpoint`: the file of an adapter of the model is broken.
    """
    opened, num_bytes, limit = list[OpenAdapter](), 0, LARGEST_TOGETHER * settings.max_lora_bytes
    with ExitStack() as files:
        for one in planned:
            sources.check()
            with _errors_at(one):
                if one.own:
                    path = registry.adapter(card, one.source, settings, field=one.field)
                    file = LoraFile(path, path.name)
                else:
                    file = files.enter_context(open_lora(Lora(one.source, one.weight_name), settings, sources))
                    num_bytes += file.path.stat().st_size
                if num_bytes > limit:
                    raise FileTooLarge(
                        f"The LoRAs up to this one have {num_bytes} bytes together; the limit is {limit}."
                    )
                header = file.header or read_lora_header(file.path, file.name)
                opened.append(OpenAdapter(one, file, header))
        yield opened


def read_adapters(
    opened: Iterable[OpenAdapter], cache: LoraCache, check: Check = no_check, *, pinned: bool = False
) -> Iterator[LoadedAdapter]:
    """Yields (adapter, its scale in each pass) for each open adapter, in the same order.

    Each adapter is read only when the iteration reaches it.

    opened: the adapters, of which only the headers are read yet. It was checked that they fit the transformer's layers.
    cache: keeps adapters in memory. An adapter that is in it is not read from its file again.
    check: called again and again. It may raise an exception to end the reading.
    pinned: True reads adapters that fit into the cache into pinned memory.

    Raises `InvalidRequest`, with the field of the request, for a LoRA that a request names and that cannot be read.
    Raises `BadCheckpoint` if the file of an adapter of the model is broken.
    """
    for one in opened:
        with _errors_at(one.planned):
            adapter = cache.read(one.file, one.header, check, pinned=pinned)
        yield replace(adapter, loc=one.planned.field), one.planned.scales


@contextmanager
def _errors_at(one: PlannedAdapter) -> Iterator[None]:
    """Context manager for reading the planned adapter `one`. Errors in its `with` block get the field of the request
    that named the adapter.

    If the request named the adapter, `BadCheckpoint` becomes `InvalidRequest` with this field, and an `InvalidRequest`
    that has no field gets it. If the adapter is one of the model's own, errors stay as they are.
    """
    try:
        yield
    except InvalidRequest as error:
        if not one.own:
            error.loc = error.loc or one.field
            error.value = error.value or shortened_url(one.source)
        raise
    except BadCheckpoint as error:
        if one.own:
            raise
        raise InvalidRequest(error.message, loc=one.field, value=shortened_url(one.source)) from error
