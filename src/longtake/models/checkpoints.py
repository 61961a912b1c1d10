"""Checkpoints on disk: opens a part in either layout, compares it with its class, and loads it without surprises."""

import importlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.errors import BadCheckpoint
from longtake.models import keys, keys_ltx2
from longtake.models.keys_ltx2 import gemma_key
from longtake.models.registry import SINGLE, PartName
from longtake.models.safe import FLOATS, Header, Stored, inside, read_header, read_json

if TYPE_CHECKING:
    import torch

Class = tuple[str, str]
"""Module and name of a model's class."""

_LTX2 = "diffusers.pipelines.ltx2"
_LTXV_UPSAMPLER: Class = ("diffusers.pipelines.ltx.modeling_latent_upsampler", "LTXLatentUpsamplerModel")
_LTX2_UPSAMPLER: Class = (_LTX2, "LTX2LatentUpsamplerModel")

CLASSES: Mapping[PartName, tuple[Class, ...]] = {
    "transformer": (("diffusers", "LTXVideoTransformer3DModel"), ("diffusers", "LTX2VideoTransformer3DModel")),
    "vae": (("diffusers", "AutoencoderKLLTXVideo"), ("diffusers", "AutoencoderKLLTX2Video")),
    "audio_vae": (("diffusers", "AutoencoderKLLTX2Audio"),),
    "vocoder": ((_LTX2, "LTX2VocoderWithBWE"),),
    "connectors": ((_LTX2, "LTX2TextConnectors"),),
    "upsampler": (_LTXV_UPSAMPLER, _LTX2_UPSAMPLER),
    "text_encoder": (
        ("transformers", "T5EncoderModel"),
        ("transformers", "Gemma3ForConditionalGeneration"),
        ("transformers", "Gemma3ForCausalLM"),
        ("transformers", "Gemma3TextModel"),
    ),
}
"""The classes of each part that has weights; those of LTX-Video first."""

_WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
_MAX_SIZE = 2**20
_MAX_LAYERS = 256
_MAX_DEPTH = 8


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
    cls: Class
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
    cls = _class(part, folder, config)
    weights: dict[str, Weight] = {}
    for file in _files(folder):
        for key, stored in read_header(file).tensors.items():
            name = gemma_key(key) if cls[1] == "Gemma3ForConditionalGeneration" else key
            if name in weights:
                raise BadCheckpoint(f"{folder} holds the weight {key[:100]} twice.")
            weights[name] = Weight(file, key, stored)
    return Checkpoint(part, folder, cls, config, weights)


def _class(part: PartName, folder: Path, config: Mapping[str, Any]) -> Class:
    """The class that a folder's configuration names, by diffusers' or by transformers' custom."""
    allowed = CLASSES[part]
    if part == "text_encoder":
        told = config.get("architectures")
        names = [str(name) for name in told] if isinstance(told, list) else []
        if config.get("model_type") == "t5":
            names.append("T5EncoderModel")
    else:
        names = [str(config.get("_class_name"))]
    found = next((cls for cls in allowed if cls[1] in names), None)
    if found is None:
        raise BadCheckpoint(
            f"{folder / 'config.json'} is of class {(', '.join(names) or 'None')[:80]}, not "
            f"{' or '.join(name for _, name in allowed)}."
        )
    return found


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
    if part == "upsampler":
        rational = "spatial_scale" in published or "rational_resampler" in published
        cls = _LTX2_UPSAMPLER if rational else _LTXV_UPSAMPLER
        config = keys_ltx2.upsampler_config(published) if rational else keys.upsampler_config(published)
        return _checkpoint(part, file, cls, config, header, {key: key for key in header.tensors})
    strange = [key for key in header.tensors if keys_ltx2.part_of(key) is None]
    if strange:
        raise BadCheckpoint(f"{file} holds {len(strange)} weights of no known part: {_some(strange)}.")
    held = [key for key in header.tensors if keys_ltx2.part_of(key) == part]
    if not held:
        raise BadCheckpoint(f"{file} holds no {part}.")
    if keys_ltx2.is_ltx2(header.tensors):
        blocks = published.get("vae", {}).get("encoder_blocks")
        levels = len(blocks) // 2 if isinstance(blocks, list) else 0
        names = _renamed(held, lambda key: keys_ltx2.renamed(part, key, levels))
        shapes = {ours: header.tensors[key].shape for ours, key in names.items()}
        config = keys_ltx2.config_of(part, published, shapes)
        return _checkpoint(part, file, CLASSES[part][-1], config, header, names)
    if part == "transformer":
        config = keys.transformer_config(published.get("transformer", {}))
        names = _renamed(held, lambda key: keys.transformer_key(key.removeprefix(keys.TRANSFORMER_PREFIX)))
    else:
        config = keys.vae_config(published.get("vae", {}))
        levels = len(config["down_block_types"])
        names = _renamed(held, lambda key: keys.vae_key(key.removeprefix(keys.VAE_PREFIX), levels))
    return _checkpoint(part, file, CLASSES[part][0], config, header, names)


def _checkpoint(
    part: PartName, file: Path, cls: Class, config: Mapping[str, Any], header: Header, names: Mapping[str, str]
) -> Checkpoint:
    weights = {ours: Weight(file, key, header.tensors[key]) for ours, key in names.items()}
    return Checkpoint(part, file, cls, config, weights)


def _published_config(file: Path, text: str | None) -> dict[str, Any]:
    try:
        config = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or not all(isinstance(config.get(part, {}), dict) for part in SINGLE["ltx2"]):
        raise BadCheckpoint(f"{file} has a `config` in its metadata that is not a sound JSON object.")
    return config


def _renamed(held: Sequence[str], rename: Callable[[str], str | None]) -> dict[str, str]:
    """The class's name -> the file's name, for the tensors that are needed."""
    names: dict[str, str] = {}
    for key in held:
        ours = rename(key)
        if ours in names:
            raise BadCheckpoint(f"The weights {names[ours][:100]} and {key[:100]} are the same one.")
        if ours is not None:
            names[ours] = key
    return names


def skeleton(checkpoint: Checkpoint) -> "torch.nn.Module":
    """The part's model with its large weights on the meta device: shapes, no memory. What a model computes for itself
    and no file keeps, as rotary frequencies, is there.

    Raises `BadCheckpoint` for settings that build none.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Unallocated(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            # The layers' own way to make weights; tables and frequencies are made otherwise.
            return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))

    _check_sizes(checkpoint, "", checkpoint.config)
    module, name = checkpoint.cls
    cls = getattr(importlib.import_module(module), name)
    try:
        with Unallocated():
            if checkpoint.part == "text_encoder":
                config = cls.config_class.from_dict(dict(checkpoint.config))
                model: torch.nn.Module = cls(config)
            else:
                model = cls.from_config(dict(checkpoint.config))
    except Exception as error:  # the class says in its own ways that a setting is impossible
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise BadCheckpoint(f"The configuration of {checkpoint.path} builds no {name}: {reason}.") from error
    return model.eval().requires_grad_(False)


def _check_sizes(checkpoint: Checkpoint, name: str, value: Any, depth: int = 0) -> None:
    """No configuration may ask for a model that takes for ever to build."""
    if isinstance(value, Mapping | list | tuple):
        if len(value) > _MAX_LAYERS or depth > _MAX_DEPTH:
            raise BadCheckpoint(f"The configuration of {checkpoint.path} has {len(value)} entries in {name}.")
        for inner, item in value.items() if isinstance(value, Mapping) else ((name, item) for item in value):
            _check_sizes(checkpoint, str(inner), item, depth + 1)
        return
    limit = _MAX_LAYERS if "layers" in name or "blocks" in name else _MAX_SIZE
    if isinstance(value, int) and abs(value) > limit:
        raise BadCheckpoint(f"The configuration of {checkpoint.path} has {name} = {value}; the limit is {limit}.")


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
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if not buffer.is_meta and buffer.device != torch.device(device):
                setattr(module, name, buffer.to(device))
    left = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if left:
        raise BadCheckpoint(f"{checkpoint.path} left {len(left)} weights without values: {_some(left)}.")
    return model.eval().requires_grad_(False)
