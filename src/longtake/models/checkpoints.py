"""Checkpoints on disk: opens a part in either layout, compares it with its class, and loads it without surprises."""

import importlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.errors import BadCheckpoint
from longtake.models import keys
from longtake.models.registry import PartName
from longtake.models.safe import FLOATS, Stored, inside, read_header, read_json

if TYPE_CHECKING:
    import torch

CLASSES: Mapping[str, tuple[str, str]] = {
    "transformer": ("diffusers", "LTXVideoTransformer3DModel"),
    "vae": ("diffusers", "AutoencoderKLLTXVideo"),
    "upsampler": ("diffusers.pipelines.ltx.modeling_latent_upsampler", "LTXLatentUpsamplerModel"),
    "text_encoder": ("transformers", "T5EncoderModel"),
}
"""Module and class of each part that has weights."""

_WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_MAX_SIZE = 2**20
_MAX_LAYERS = 256


@dataclass(frozen=True)
class Weight:
    """One tensor of a checkpoint under the name that its class knows."""

    file: Path
    key: str
    stored: Stored


@dataclass(frozen=True)
class Checkpoint:
    """A part whose headers are read and sound, and whose data is not read yet."""

    part: PartName
    path: Path
    config: Mapping[str, Any]
    weights: Mapping[str, Weight]

    @property
    def num_bytes(self) -> int:
        return sum(weight.stored.stop - weight.stored.start for weight in self.weights.values())

    @property
    def num_elements(self) -> int:
        return sum(math.prod(weight.stored.shape) for weight in self.weights.values())


@dataclass(frozen=True)
class Fit:
    """How a checkpoint's weights differ from those of its class; all empty when they are the same."""

    missing: Sequence[str]
    unknown: Sequence[str]
    misshapen: Sequence[str]

    @property
    def exact(self) -> bool:
        return not (self.missing or self.unknown or self.misshapen)

    def sentence(self) -> str:
        kinds = (("missing", self.missing), ("unknown", self.unknown), ("of another shape or kind", self.misshapen))
        return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds if names)


def _some(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def open_part(part: PartName, path: Path) -> Checkpoint:
    """Reads the headers of one part: a folder in diffusers layout, or a published single file.

    Raises `BadCheckpoint` for a file that is no sound safetensors file and for a part that is not in it.
    """
    return _open_folder(part, path) if path.is_dir() else _open_single(part, path)


def _open_folder(part: PartName, folder: Path) -> Checkpoint:
    config = read_json(inside(folder, "config.json"))
    if part != "text_encoder" and config.get("_class_name") != CLASSES[part][1]:
        raise BadCheckpoint(
            f"{folder / 'config.json'} is of class {str(config.get('_class_name'))[:80]}, not {CLASSES[part][1]}."
        )
    weights: dict[str, Weight] = {}
    for file in _files(folder):
        for key, stored in read_header(file).tensors.items():
            if key in weights:
                raise BadCheckpoint(f"{folder} holds the weight {key[:100]} in two files.")
            weights[key] = Weight(file, key, stored)
    return Checkpoint(part, folder, config, weights)


def _files(folder: Path) -> list[Path]:
    for name in _WEIGHT_FILES:
        if (folder / name).exists():
            return [inside(folder, name)]
        if (folder / f"{name}.index.json").exists():
            index = read_json(inside(folder, f"{name}.index.json")).get("weight_map")
            if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
                raise BadCheckpoint(f"{folder / name}.index.json has no weight_map of file names.")
            return [inside(folder, file) for file in sorted(set(index.values()))]
    raise BadCheckpoint(f"{folder} holds no weights: neither {' nor '.join(_WEIGHT_FILES)}, whole or with an index.")


def _open_single(part: PartName, file: Path) -> Checkpoint:
    header = read_header(file)
    published = _published_config(file, header.metadata.get("config"))
    if part == "transformer":
        config = keys.transformer_config(published.get("transformer", {}))
        names = _renamed(header.tensors, keys.TRANSFORMER_PREFIX, keys.transformer_key)
    elif part == "vae":
        config = keys.vae_config(published.get("vae", {}))
        levels = len(config["down_block_types"])
        names = _renamed(header.tensors, keys.VAE_PREFIX, lambda key: keys.vae_key(key, levels))
    else:
        config, names = keys.upsampler_config(published), {key: key for key in header.tensors}
    if part in ("transformer", "vae"):
        strange = [key for key in header.tensors if not key.startswith((keys.TRANSFORMER_PREFIX, keys.VAE_PREFIX))]
        if strange:
            raise BadCheckpoint(f"{file} holds {len(strange)} weights of no known part: {_some(strange)}.")
    if not names:
        raise BadCheckpoint(f"{file} holds no {part}.")
    return Checkpoint(part, file, config, {ours: Weight(file, key, header.tensors[key]) for ours, key in names.items()})


def _published_config(file: Path, text: str | None) -> dict[str, Any]:
    try:
        config = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        config = None
    parts = ("transformer", "vae")
    if not isinstance(config, dict) or not all(isinstance(config.get(part, {}), dict) for part in parts):
        raise BadCheckpoint(f"{file} has a `config` in its metadata that is not a sound JSON object.")
    return config


def _renamed(tensors: Mapping[str, Stored], prefix: str, rename: Any) -> dict[str, str]:
    """The class's name -> the file's name, for the tensors below a prefix that are needed."""
    names: dict[str, str] = {}
    for key in tensors:
        ours = rename(key.removeprefix(prefix)) if key.startswith(prefix) else None
        if ours in names:
            raise BadCheckpoint(f"The weights {names[ours][:100]} and {key[:100]} are the same one.")
        if ours is not None:
            names[ours] = key
    return names


def skeleton(checkpoint: Checkpoint) -> "torch.nn.Module":
    """The part's model on the meta device: shapes, no memory. Raises `BadCheckpoint` for settings that build none."""
    import torch

    for name, value in checkpoint.config.items():
        _check_sizes(checkpoint, name, value)
    module, name = CLASSES[checkpoint.part]
    cls = getattr(importlib.import_module(module), name)
    try:
        with torch.device("meta"):
            if checkpoint.part == "text_encoder":
                config = cls.config_class.from_dict(dict(checkpoint.config))
                model: torch.nn.Module = cls(config)
            else:
                model = cls.from_config(dict(checkpoint.config))
    except Exception as error:  # the class says in its own ways that a setting is impossible
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise BadCheckpoint(f"The configuration of {checkpoint.path} builds no {name}: {reason}.") from error
    return model.eval().requires_grad_(False)


def _check_sizes(checkpoint: Checkpoint, name: str, value: Any) -> None:
    """No configuration may ask for a model that takes for ever to build."""
    limit = _MAX_LAYERS if "layers" in name or "blocks" in name else _MAX_SIZE
    items = value if isinstance(value, list) else [value]
    if len(items) > _MAX_LAYERS:
        raise BadCheckpoint(f"The configuration of {checkpoint.path} has {len(items)} entries in {name}.")
    for item in items:
        if isinstance(item, int) and abs(item) > limit:
            raise BadCheckpoint(f"The configuration of {checkpoint.path} has {name} = {item}; the limit is {limit}.")


def fit(checkpoint: Checkpoint, model: "torch.nn.Module") -> Fit:
    """Compares names, shapes and kinds of a checkpoint's weights with those of a model (on any device)."""
    needed = model.state_dict()
    tied = getattr(model, "_tied_weights_keys", None) or ()
    missing = [key for key in needed if key not in checkpoint.weights and key not in tied]
    unknown = [key for key in checkpoint.weights if key not in needed]
    misshapen = [
        f"{key} ({weight.stored.dtype} {list(weight.stored.shape)}, not a float of {list(needed[key].shape)})"
        for key, weight in checkpoint.weights.items()
        if key in needed and (weight.stored.shape != tuple(needed[key].shape) or weight.stored.dtype not in FLOATS)
    ]
    return Fit(missing, unknown, misshapen)


def load(checkpoint: Checkpoint, *, dtype: "torch.dtype", device: "torch.device | str" = "cpu") -> "torch.nn.Module":
    """The part's model in `dtype` on `device`, in eval mode, without gradients.

    Raises `BadCheckpoint` that names the weights that are missing, unknown or of another shape, and how many.
    """
    import torch
    from safetensors import safe_open

    model = skeleton(checkpoint)
    differences = fit(checkpoint, model)
    if not differences.exact:
        raise BadCheckpoint(f"{checkpoint.path} does not fit {type(model).__name__}: {differences.sentence()}.")
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted({weight.file for weight in checkpoint.weights.values()}):
        with safe_open(file, framework="pt") as opened:
            for name, weight in checkpoint.weights.items():
                if weight.file == file:
                    # Copied, since a tensor that stays mapped would follow whatever happens to the file.
                    tensors[name] = opened.get_tensor(weight.key).to(device=device, dtype=dtype, copy=True)
    model.load_state_dict(tensors, strict=False, assign=True)
    if checkpoint.part == "text_encoder":
        model.tie_weights()  # type: ignore[operator]
    left = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    if left:
        raise BadCheckpoint(f"{checkpoint.path} left {len(left)} weights without values: {_some(left)}.")
    return model.eval().requires_grad_(False)
