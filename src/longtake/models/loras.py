"""LoRAs: reads both published key styles strictly, and lends them to a transformer for one request.

W + scale * (alpha / rank) * B A for each adapted linear layer, through PEFT; alpha / rank is 1 without an alpha.
"""

import json
import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks.group_offloading import _maybe_remove_and_reapply_group_offloading

from longtake.errors import BadCheckpoint, InvalidRequest, Loc
from longtake.models import keys
from longtake.models.lora_files import Fetch, Lora, resolve
from longtake.models.safe import FLOATS, read_header
from longtake.settings import Settings

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
_KOHYA = "lora_unet_"

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
    """A LoRA read. A module is named as diffusers does, or, from a kohya file (`flat`), with underscores for dots."""

    name: str
    pairs: Mapping[str, Pair]
    flat: bool = False

    @property
    def num_bytes(self) -> int:
        return sum(pair.a.nbytes + pair.b.nbytes for pair in self.pairs.values())


def read(path: Path) -> Adapter:
    """Reads a LoRA file. Raises `BadCheckpoint` naming keys that are strange, unpaired or of impossible shapes."""
    from safetensors import safe_open

    header = read_header(path, MAX_HEADER_BYTES)
    found: dict[str, dict[str, str]] = {}
    strange = []
    for key, stored in header.tensors.items():
        module, side = _parsed(key)
        if module is None or stored.dtype not in FLOATS or side in found.setdefault(module, {}):
            strange.append(key)
        else:
            found[module][side] = key
    if strange or not found:
        raise BadCheckpoint(f"{path.name} is no LoRA for an LTX-Video transformer: {_named(strange, 'unknown key')}.")
    unpaired = [module for module, sides in found.items() if not {"A", "B"} <= sides.keys()]
    if unpaired:
        raise BadCheckpoint(f"{path.name} has only one half of {_named(unpaired, 'pair')}.")
    declared = _declared_alphas(path, header.metadata)
    pairs = {}
    with safe_open(path, framework="pt") as opened:
        for module, sides in found.items():
            tensors = {side: opened.get_tensor(key).clone() for side, key in sides.items()}
            alpha = tensors["alpha"].item() if "alpha" in sides and tensors["alpha"].numel() == 1 else declared(module)
            pairs[module] = _pair(path, module, tensors["A"], tensors["B"], alpha)
    return Adapter(path.name, pairs, flat=any(key.startswith(_KOHYA) for key in header.tensors))


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
    return keys.transformer_key(match[1].removeprefix(prefix) + ".").removesuffix("."), side


def _named(names: Sequence[str], kind: str) -> str:
    if not names:
        return "it holds no pair of lora_A and lora_B"
    plural = "" if len(names) == 1 else "s"
    return f"{len(names)} {kind}{plural}: " + ", ".join(name[:120] for name in names[:4]) + (", ..." * (len(names) > 4))


def _pair(path: Path, module: str, a: torch.Tensor, b: torch.Tensor, alpha: float | None) -> Pair:
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1] or a.shape[0] == 0:
        raise BadCheckpoint(
            f"{path.name} has A {list(a.shape)} and B {list(b.shape)} for {module[:120]}, which do not multiply."
        )
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


class LoraCache:
    """The adapters read last, as many as fit in `max_bytes` of host memory. A file that changed is read again."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[Path, int, int], Adapter] = OrderedDict()

    def read(self, path: Path) -> Adapter:
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size)
        adapter = self._kept.pop(key, None) or read(path)
        self._kept[key] = adapter
        while self._kept and sum(kept.num_bytes for kept in self._kept.values()) > self._max_bytes:
            self._kept.popitem(last=False)
        return adapter


def gather(
    loras: Sequence[Lora], settings: Settings, cache: LoraCache, *, fetch: Fetch | None = None, any_path: bool = False
) -> list[tuple[Adapter, float]]:
    """The adapters that a request names, with their scales, in its order.

    Raises `InvalidRequest` with the location of the one that is not to be had or not to be read.
    """
    adapters = []
    for index, lora in enumerate(loras):
        loc: Loc = ("body", "loras", index, "path")
        try:
            adapters.append((cache.read(resolve(lora, settings, fetch=fetch, any_path=any_path)), lora.scale))
        except InvalidRequest as error:
            error.loc = error.loc or loc
            raise
        except BadCheckpoint as error:
            raise InvalidRequest(error.message, loc=loc, given=lora.path) from error
    return adapters


@contextmanager
def applied(transformer: Any, adapters: Sequence[tuple[Adapter, float]]) -> Iterator[None]:
    """Lends adapters with their scales to a transformer; afterwards it is as it was, whatever happens.

    Raises `InvalidRequest` for an adapter that names no linear layer of the transformer or has another shape.
    """
    matched = [_matched(transformer, adapter, index) for index, (adapter, _) in enumerate(adapters)]
    if not matched:
        yield
        return
    names = [f"lora_{index}" for index in range(len(matched))]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")
            for name, pairs in zip(names, matched, strict=True):
                _inject(transformer, name, pairs)
        _maybe_remove_and_reapply_group_offloading(transformer)
        transformer.set_adapters(names, [scale for _, scale in adapters])
        yield
    finally:
        _restore(transformer)


def _matched(transformer: Any, adapter: Adapter, index: int) -> dict[str, Pair]:
    """The pairs under the transformer's own names of its linear layers."""
    linear = {name: module for name, module in transformer.named_modules() if isinstance(module, torch.nn.Linear)}
    spoken = {name.replace(".", "_"): name for name in linear} if adapter.flat else {name: name for name in linear}
    loc: Loc = ("body", "loras", index, "path")
    strange = [module for module in adapter.pairs if module not in spoken]
    if strange:
        reason = _named(strange, "module")
        raise InvalidRequest(f"The LoRA {adapter.name} does not fit the model, which lacks {reason}.", loc=loc)
    pairs = {spoken[module]: pair for module, pair in adapter.pairs.items()}
    for name, pair in pairs.items():
        layer = linear[name]
        if (pair.b.shape[0], pair.a.shape[1]) != (layer.out_features, layer.in_features):
            raise InvalidRequest(
                f"The LoRA {adapter.name} does not fit the model: {name} is {layer.out_features} x "
                f"{layer.in_features}, its change {pair.b.shape[0]} x {pair.a.shape[1]}.",
                loc=loc,
            )
    return pairs


def _inject(transformer: Any, name: str, pairs: Mapping[str, Pair]) -> None:
    ranks = {f"^{re.escape(module)}": pair.a.shape[0] for module, pair in pairs.items()}
    rank = max(ranks.values())
    state: dict[str, torch.Tensor] = {}
    for module, pair in pairs.items():
        state |= {f"{module}.lora_A.weight": pair.a, f"{module}.lora_B.weight": pair.b}
    plan = {"r": rank, "lora_alpha": rank, "rank_pattern": ranks, "alpha_pattern": ranks, "target_modules": list(pairs)}
    transformer.load_lora_adapter(state, prefix=None, adapter_name=name, metadata=plan)
    for module, pair in pairs.items():
        layer = transformer.get_submodule(module)
        # PEFT gives its weights the dtype of the layer's own, which is no use where those are stored in 8 bits.
        layer.lora_A[name].weight.data = pair.a.to(layer.weight.device, transformer.dtype)
        layer.lora_B[name].weight.data = (pair.b.float() * pair.factor).to(layer.weight.device, transformer.dtype)


def _restore(transformer: Any) -> None:
    transformer.unload_lora()
    vars(transformer).pop("_hf_peft_config_loaded", None)
