"""LoRAs: reads both published key styles strictly, and lends them to a transformer for one request.

W + scale * (alpha / rank) * B A for each adapted linear layer, through PEFT; alpha / rank is 1 without an alpha.
"""

import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from cachetools import LRUCache, cachedmethod
from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading

from longtake.errors import BadCheckpoint, InvalidRequest, Loc
from longtake.models import registry
from longtake.models.lora_files import Fetch, Lora, resolve
from longtake.models.registry import ModelCard
from longtake.models.safe import FLOATS, Header, read_header
from longtake.models.transformer_keys import transformer_key
from longtake.plans import PlannedAdapter
from longtake.settings import Settings

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
_KOHYA = "lora_unet_"
_OF_CONNECTORS = re.compile(
    r"^((model\.)?(diffusion_model|transformer)\.)?"
    r"(text_embedding_projection|connectors|(video|audio)_(embeddings_)?connector)\."
)
"""Changes of the text stack, which the reference leaves out as well."""

MAX_HEADER_BYTES = 8 * 1024**2
_SIDES = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora_A.default.weight": "A",
    "lora_B.default.weight": "B",
    "lora_down.weight": "A",
    "lora_up.weight": "B",
    "alpha": "alpha",
}
_KEY = re.compile(rf"^(.+?)\.({'|'.join(re.escape(side) for side in _SIDES)})$")


@dataclass(frozen=True)
class Pair:
    """The change of one linear layer, factor * B A: a [rank, in] and b [out, rank] as stored, on the host."""

    a: torch.Tensor
    b: torch.Tensor
    factor: float = 1.0


@dataclass(frozen=True)
class Adapter:
    """A LoRA read. A module is named as diffusers does, or, from a kohya file (`flat`), with underscores for dots.

    `loc`: the field of the request that named it.
    """

    name: str
    pairs: Mapping[str, Pair]
    flat: bool = False
    loc: Loc | None = None

    @property
    def num_bytes(self) -> int:
        return sum(pair.a.nbytes + pair.b.nbytes for pair in self.pairs.values())


def read(path: Path) -> Adapter:
    """Reads a LoRA file. Raises `BadCheckpoint` naming keys that are strange, unpaired or of impossible shapes."""
    from safetensors import safe_open

    header, found = _scanned(path)
    declared = _declared_alphas(path, header.metadata)
    pairs = {}
    with safe_open(path, framework="pt") as opened:
        for module, sides in found.items():
            tensors = {side: opened.get_tensor(key).clone() for side, key in sides.items()}
            alpha = tensors["alpha"].item() if "alpha" in sides and tensors["alpha"].numel() == 1 else declared(module)
            pairs[module] = _pair(path, module, tensors["A"], tensors["B"], alpha)
    return Adapter(path.name, pairs, flat=_flat(header))


def fitting(path: Path, transformer: torch.nn.Module) -> int:
    """The number of parameters of a LoRA file that fits a transformer on any device, by its header alone.

    Raises `BadCheckpoint` or `InvalidRequest` for one that does not.
    """
    header, found = _scanned(path)
    shapes = {
        module: (header.tensors[sides["A"]].shape, header.tensors[sides["B"]].shape) for module, sides in found.items()
    }
    _matched(transformer, path.name, shapes, _flat(header), ())
    return sum(math.prod(shape) for pair in shapes.values() for shape in pair)


def _flat(header: Header) -> bool:
    return any(key.startswith(_KOHYA) for key in header.tensors)


def _scanned(path: Path) -> tuple[Header, dict[str, dict[str, str]]]:
    """The header of a LoRA file, and for each module the keys of its sides A, B and alpha."""
    header = read_header(path, MAX_HEADER_BYTES)
    found: dict[str, dict[str, str]] = {}
    strange = []
    for key, stored in header.tensors.items():
        if _OF_CONNECTORS.match(key):
            continue
        module, side = _parsed(key)
        if module is None or stored.dtype not in FLOATS or side in found.setdefault(module, {}):
            strange.append(key)
        else:
            found[module][side] = key
    if strange or not found:
        raise BadCheckpoint(f"{path.name} is no LoRA for an LTX transformer: {_named(strange, 'unknown key')}.")
    unpaired = [module for module, sides in found.items() if not {"A", "B"} <= sides.keys()]
    if unpaired:
        raise BadCheckpoint(f"{path.name} has only one half of {_named(unpaired, 'pair')}.")
    for module, sides in found.items():
        a, b = (header.tensors[sides[side]].shape for side in "AB")
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or a[0] == 0:
            raise BadCheckpoint(
                f"{path.name} has A {list(a)} and B {list(b)} for {module[:120]}, which do not multiply."
            )
    return header, found


def _parsed(key: str) -> tuple[str | None, str]:
    match = _KEY.match(key)
    if match is None:
        return None, ""
    side = _SIDES[match[2]]
    if key.startswith(_KOHYA):
        return match[1].removeprefix(_KOHYA), side
    prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), None)
    if prefix is None:
        return None, ""
    return transformer_key(match[1].removeprefix(prefix)), side


def _named(names: Sequence[str], kind: str) -> str:
    if not names:
        return "it holds no pair of lora_A and lora_B"
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {kind}{plural}: " + ", ".join(name[:120] for name in names[:4]) + (", ..." * (len(names) > 4))


def _pair(path: Path, module: str, a: torch.Tensor, b: torch.Tensor, alpha: float | None) -> Pair:
    factor = 1.0 if alpha is None else alpha / a.shape[0]
    if not (a.float().isfinite().all() and b.float().isfinite().all() and math.isfinite(factor)):
        raise BadCheckpoint(f"{path.name} has values for {module[:120]} that are not finite.")
    return Pair(a, b, factor)


def _declared_alphas(path: Path, metadata: Mapping[str, str]) -> Callable[[str], float | None]:
    """A function module -> alpha by the settings that diffusers keeps in the metadata, or None where it keeps none."""
    try:
        kept = json.loads(metadata.get("lora_adapter_metadata", "{}"))
        kept = {name.removeprefix("transformer."): value for name, value in kept.items()}
        alpha, patterns = kept.get("lora_alpha"), dict(kept.get("alpha_pattern") or {})
        if kept.get("use_dora") or kept.get("use_rslora"):
            raise BadCheckpoint(f"{path.name} is a DoRA or a rank-stabilised LoRA; only plain LoRAs are applied.")
        values = [value for value in (alpha, *patterns.values()) if value is not None]
        if not all(isinstance(value, int | float) for value in values):
            raise ValueError
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise BadCheckpoint(f"{path.name} has metadata about its LoRA that cannot be read.") from None

    def declared(module: str) -> float | None:
        own = (value for name, value in patterns.items() if f".{module}".endswith("." + name.lstrip("^")))
        return next(own, alpha)

    return declared


LoadedAdapter = tuple[Adapter, tuple[float, ...]]
"""An adapter that is read, and its scale in each pass."""


class LoraCache:
    """Recently read adapters, up to `max_bytes` of host memory. A file that changed is read again."""

    def __init__(self, max_bytes: int) -> None:
        self._adapters: LRUCache[Any, Adapter] = LRUCache(max_bytes, getsizeof=lambda adapter: adapter.num_bytes)

    def read(self, path: Path) -> Adapter:
        """Returns the adapter of a file. Raises as `read` does."""
        stat = path.stat()
        return self._read(path, stat.st_mtime_ns, stat.st_size)

    @cachedmethod(attrgetter("_adapters"))
    def _read(self, path: Path, mtime_ns: int, size: int) -> Adapter:
        return read(path)


def load_adapters(
    planned: Sequence[PlannedAdapter],
    card: ModelCard,
    settings: Settings,
    cache: LoraCache,
    *,
    fetch: Fetch | None = None,
    any_path: bool = False,
) -> list[LoadedAdapter]:
    """The adapters of a plan, read, in its order.

    Raises `InvalidRequest` at the field that asked for one that cannot be had or read, `NotSupported` for one of the
    model's own that it does not have or that is not on this machine.
    """
    loaded = []
    for one in planned:
        try:
            if one.own:
                path = registry.adapter(card, one.source, settings, field=one.field)
            else:
                path = resolve(Lora(one.source, weight_name=one.weight_name), settings, fetch=fetch, any_path=any_path)
            loaded.append((replace(cache.read(path), loc=one.field), one.scales))
        except InvalidRequest as error:
            error.loc = error.loc or one.field
            raise
        except BadCheckpoint as error:
            if one.own:
                raise
            raise InvalidRequest(error.message, loc=one.field, value=one.source) from error
    return loaded


@contextmanager
def applied(transformer: Any, adapters: Sequence[LoadedAdapter]) -> Iterator[Callable[[int], None]]:
    """Lends adapters to a transformer; afterwards it is as it was, whatever happens.

    Yields a function that gives them their scales of pass n; at first they have those of pass 0. Raises
    `InvalidRequest` for an adapter that names no linear layer of the transformer or has another shape.
    """
    matched = []
    for index, (adapter, _) in enumerate(adapters):
        shapes = {module: (tuple(pair.a.shape), tuple(pair.b.shape)) for module, pair in adapter.pairs.items()}
        loc = adapter.loc or ("body", "loras", index, "path")
        names = _matched(transformer, adapter.name, shapes, adapter.flat, loc)
        matched.append({names[module]: pair for module, pair in adapter.pairs.items()})
    if not matched:
        yield lambda number: None
        return
    names_in_use = [f"lora_{index}" for index in range(len(matched))]

    def set_pass(number: int) -> None:
        transformer.set_adapters(names_in_use, [scales[number] for _, scales in adapters])

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            for name, pairs in zip(names_in_use, matched, strict=True):
                _inject(transformer, name, pairs)
        _maybe_remove_and_reapply_group_offloading(transformer)
        set_pass(0)
        yield set_pass
    finally:
        _restore(transformer)


def _matched(
    transformer: torch.nn.Module,
    name: str,
    shapes: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
    flat: bool,
    loc: Loc,
) -> dict[str, str]:
    """The transformer's own name of each linear layer that a LoRA changes by A and B of these shapes."""
    linear = {name: module for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}
    spoken = {own.replace(".", "_"): own for own in linear} if flat else {own: own for own in linear}
    strange = [module for module in shapes if module not in spoken]
    if strange:
        reason = _named(strange, "module")
        raise InvalidRequest(f"The LoRA {name} does not fit the model, which lacks {reason}.", loc=loc)
    for module, (a, b) in shapes.items():
        layer = linear[spoken[module]]
        if (b[0], *a[1:]) != (layer.out_features, layer.in_features):
            raise InvalidRequest(
                f"The LoRA {name} does not fit the model: {spoken[module]} is {layer.out_features} x "
                f"{layer.in_features}, its change {b[0]} x {', '.join(str(size) for size in a[1:])}.",
                loc=loc,
            )
    return {module: spoken[module] for module in shapes}


def _inject(transformer: Any, name: str, pairs: Mapping[str, Pair]) -> None:
    ranks = {module: pair.a.shape[0] for module, pair in pairs.items()}
    dtype = transformer.dtype
    rank = Counter(ranks.values()).most_common(1)[0][0]
    # Only exceptions: PEFT compares each layer with each pattern.
    others = {f"^{re.escape(module)}": own for module, own in ranks.items() if own != rank}
    state: dict[str, torch.Tensor] = {}
    for module, pair in pairs.items():
        state |= {f"{module}.lora_A.weight": pair.a, f"{module}.lora_B.weight": pair.b}
    plan = {
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": list(pairs),
    }
    transformer.load_lora_adapter(state, prefix=None, adapter_name=name, metadata=plan)
    for module, pair in pairs.items():
        layer = transformer.get_submodule(module)
        # PEFT gives its weights the dtype of the layer's own, which is no use where those are stored in 8 bits.
        device = layer.weight.device
        layer.lora_A[name].weight.data = pair.a.to(device, dtype)
        layer.lora_B[name].weight.data = (pair.b.to(device).float() * pair.factor).to(dtype)


def _restore(transformer: Any) -> None:
    transformer.unload_lora()
    vars(transformer).pop("_hf_peft_config_loaded", None)
