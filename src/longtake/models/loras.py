"""LoRAs: reads their files, and applies them to a transformer for one request, with the PEFT library.

A LoRA changes the weight W of a linear layer to W + scale * (alpha / rank) * B A. The request sets `scale`. `alpha` and
`rank` come from the LoRA's file; if the file has no alpha, alpha / rank is 1.
"""

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from cachetools import LRUCache
from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading
from torch.nn.modules.module import register_module_module_registration_hook

from longtake.errors import BadCheckpoint, FileTooLarge, InvalidRequest, Loc
from longtake.models import registry
from longtake.models.lora_files import LARGEST_TOGETHER, NO_SOURCES, LoraFile, LoraSources, open_lora
from longtake.models.lora_header import LoraHeader, Shapes, count_names, read_lora_header
from longtake.models.lora_keys import Side
from longtake.models.lora_names import Lora
from longtake.models.registry import ModelCard
from longtake.models.safe import shown_name
from longtake.models.transformer_keys import flat, published_key
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

    planned: the LoRA as the plan names it.
    file: its file, which can be read while the LoRA is open.
    header: its header.
    """

    planned: PlannedAdapter
    file: LoraFile
    header: LoraHeader

    def check_fit(self, transformer: torch.nn.Module) -> None:
        """Raises `InvalidRequest`, with the field of the request, if the LoRA does not fit a transformer."""
        _own_names(_linear_layers(transformer), self.header.name, self.header.shapes, self.planned.field)


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


def read(path: Path, header: LoraHeader | None = None, check: Check = no_check) -> Adapter:
    """Reads a LoRA file into host memory. `header` is its header; with None it is read from the file.

    A tensor `alpha` in the file takes precedence over an alpha in the metadata.

    check: called again and again while tensors are read, which takes seconds for large files. It may raise an exception
        to end the reading.

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
                _finite_copy(header, module, tensor(keys[side]), shape, check)
                for side, shape in zip(SIDES, header.shapes[module], strict=True)
            )
            alpha = tensor(keys["alpha"]).item() if "alpha" in keys else header.alphas[module]
            factor = 1.0 if alpha is None else alpha / a.shape[0]
            if not math.isfinite(factor):
                raise _not_finite(header, module)
            pairs[module] = Pair(a, b, factor)
    return Adapter(header.name, pairs)


def _finite_copy(
    header: LoraHeader, module: str, stored: torch.Tensor, shape: Sequence[int], check: Check
) -> torch.Tensor:
    """Returns a copy of a module's matrix. The copy stays the same if the LoRA's file changes later.

    header, module: the LoRA and the module's name, for the error.
    stored: the matrix as it is stored in the file.
    shape: the shape of the copy.
    check: called before each piece of the matrix is copied. It may raise an exception to end the work.
    Raises `BadCheckpoint` for values that are not finite, or for another number of values than `header` says.
    """
    if stored.numel() != math.prod(shape):
        raise _changed(header)
    copy = torch.empty(stored.numel(), dtype=stored.dtype)
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


def check_fit(header: LoraHeader, transformer: torch.nn.Module) -> None:
    """Raises `InvalidRequest` if a LoRA does not fit a transformer.

    It does not fit if it changes a module that is no linear layer of the transformer, or that has another shape there.
    The transformer's weights are not read, so they may be on the meta device.
    """
    _own_names(_linear_layers(transformer), header.name, header.shapes, ())


LoadedAdapter = tuple[Adapter, tuple[float, ...]]
"""An adapter in host memory, and its scale in each pass (first pass, second pass)."""


class LoraCache:
    """A cache of adapters, which holds up to `max_bytes` bytes of host memory and drops the least recently used ones.

    A file whose modification time or size has changed is read again.
    """

    def __init__(self, max_bytes: int) -> None:
        self._adapters: LRUCache[Any, Adapter] = LRUCache(max_bytes, getsizeof=lambda adapter: adapter.num_bytes)

    def read(self, file: LoraFile, header: LoraHeader, check: Check = no_check) -> Adapter:
        """Returns the adapter in a file, from the cache if it is there. A temporary file is not cached.

        header: the file's header.
        check: called again and again while the file is read. It may raise an exception to end the reading.

        Raises `BadCheckpoint` for a file that is no supported LoRA, and for values that are not finite.
        """
        if file.is_temporary:
            return read(file.path, header, check)
        stat = file.path.stat()
        key = (file.path, file.name, stat.st_mtime_ns, stat.st_size)
        if key not in self._adapters:
            adapter = read(file.path, header, check)
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
    sources: the sources of the LoRAs that the request names.

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


def read_adapters(opened: Iterable[OpenAdapter], cache: LoraCache, check: Check = no_check) -> Iterator[LoadedAdapter]:
    """Yields (adapter, its scale in each sampling pass) for each open adapter, in the same order.

    Each adapter is read only when the iteration reaches it, so that one at a time is in host memory, besides those in
    `cache`.

    opened: the open adapters. It was checked that they fit.
    cache: keeps adapters in memory. An adapter that is in it is not read from its file again.
    check: called again and again. It may raise an exception to end the reading.

    Raises `InvalidRequest`, with the field of the request, for a LoRA that a request names and that cannot be read.
    Raises `BadCheckpoint` if the file of an adapter of the model is broken.
    """
    for one in opened:
        with _errors_at(one.planned):
            adapter = cache.read(one.file, one.header, check)
        yield replace(adapter, loc=one.planned.field), one.planned.scales
        del adapter  # before the next one is read


@contextmanager
def _errors_at(one: PlannedAdapter) -> Iterator[None]:
    """Context manager for reading the planned adapter `one`. It adds the request's field to the errors of its block.

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


@contextmanager
def applied(
    transformer: Any, adapters: Iterable[LoadedAdapter], check: Check = no_check
) -> Iterator[Callable[[int], None]]:
    """Applies adapters to a transformer inside the `with` block, and removes them at its end, also after an error.

    Yields a function that sets the strengths of all adapters for one sampling pass. Its argument is the pass's number,
    from 0. The strengths of pass 0 are set at the start.

    adapters: each adapter with its strength in each pass.
    check: called again and again while the adapters are attached. It may raise an exception to stop the work.
    Raises `InvalidRequest` for an adapter with a module that is no linear layer of the transformer, or that has another
    shape there.
    """
    linear, scales = _linear_layers(transformer), dict[str, tuple[float, ...]]()

    def set_pass(number: int) -> None:
        if scales:
            transformer.set_adapters(list(scales), [of_passes[number] for of_passes in scales.values()])

    try:
        for adapter, of_passes in adapters:
            index = len(scales)
            shapes = {module: (tuple(pair.a.shape), tuple(pair.b.shape)) for module, pair in adapter.pairs.items()}
            loc = adapter.loc or ("body", "loras", index, "path")
            names = _own_names(linear, adapter.name, shapes, loc)
            scales[f"lora_{index}"] = of_passes
            pairs = {names[module]: pair for module, pair in adapter.pairs.items()}
            _inject(transformer, f"lora_{index}", pairs, check)
            del adapter, pairs  # before the next one is read
        if scales:
            _maybe_remove_and_reapply_group_offloading(transformer)
        set_pass(0)
        yield set_pass
    finally:
        if scales:
            _restore(transformer)


def _linear_layers(transformer: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """Returns the linear layers of a transformer without adapters: name -> layer."""
    return {name: layer for name, layer in transformer.named_modules() if isinstance(layer, torch.nn.Linear)}


def _own_names(linear: Mapping[str, torch.nn.Linear], name: str, shapes: Shapes, loc: Loc) -> dict[str, str]:
    """Returns a mapping from each module's name in the LoRA to its name in the transformer.

    linear: the transformer's linear layers by name.
    name: the LoRA's file name, for messages.
    shapes: module's name in the LoRA -> the shapes of the matrices A and B.
    loc: the path of the request's field that named the LoRA, for errors.
    Raises `InvalidRequest` in these cases:
    - A module of the LoRA is no linear layer of the transformer, or has another shape than that layer.
    - The LoRA names a module twice, in two spellings.
    """
    own_names = {flat(spelling): own for own in linear for spelling in (published_key(own), own)}
    own_names |= {own: own for own in linear}
    unknown = [module for module in shapes if module not in own_names]
    if unknown:
        reason = count_names(unknown, "module")
        raise InvalidRequest(f"The LoRA {name} does not fit the model, which lacks {reason}.", loc=loc, value=name)
    repeated = [own for own, count in Counter(own_names[module] for module in shapes).items() if count > 1]
    if repeated:
        reason = count_names(repeated, "module")
        raise InvalidRequest(f"The LoRA {name} has two spellings of {reason}.", loc=loc, value=name)
    for module, (a, b) in shapes.items():
        layer = linear[own_names[module]]
        if (b[0], *a[1:]) != (layer.out_features, layer.in_features):
            raise InvalidRequest(
                f"The LoRA {name} does not fit the model: {own_names[module]} is {layer.out_features} x "
                f"{layer.in_features}, its change {b[0]} x {', '.join(str(size) for size in a[1:])}.",
                loc=loc,
                value=name,
            )
    return {module: own_names[module] for module in shapes}


def _inject(transformer: Any, name: str, pairs: Mapping[str, Pair], check: Check) -> None:
    """Adds a LoRA to the transformer, as PEFT's adapter `name`.

    pairs: module name in the transformer -> the change of that module's weight.
    check: called while PEFT wraps the modules, and before the matrices of each module are set.
    """
    from peft import LoraConfig, inject_adapter_in_model

    dtype = transformer.dtype
    # PEFT makes matrices of rank 1, which are replaced by those of the LoRA. With the LoRA's own ranks, PEFT would
    # initialise gigabytes of values that are then replaced, and if the ranks differ, compare each layer with a pattern
    # for each rank, which takes minutes.
    config = LoraConfig(r=1, lora_alpha=1, target_modules=list(pairs))
    names_alone: Any = dict.fromkeys(f"{module}.lora_A.weight" for module in pairs)
    with _called_for_new_modules(check), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        inject_adapter_in_model(config, transformer, name, state_dict=names_alone)
    transformer._hf_peft_config_loaded = True
    for module, pair in pairs.items():
        check()
        layer = transformer.get_submodule(module)
        # PEFT gives A and B the dtype of the layer's weight. That may be an 8-bit dtype, so it is set again here.
        device = layer.weight.device
        layer.lora_A[name].weight.data = pair.a.to(device, dtype)
        layer.lora_B[name].weight.data = (pair.b.to(device).float() * pair.factor).to(dtype)


@contextmanager
def _called_for_new_modules(check: Check) -> Iterator[None]:
    """Context manager: inside its block, torch calls `check` for each module that becomes part of another one.

    It is used around PEFT's call that wraps all layers, so that `check` can end that call: it may take seconds.
    """

    def hook(*_: object) -> None:
        check()

    handle = register_module_module_registration_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _restore(transformer: Any) -> None:
    """Removes all adapters from the transformer."""
    transformer.unload_lora()
    vars(transformer).pop("_hf_peft_config_loaded", None)
