"""Checkpoints on disk: reads the header of a model's part, such as its VAE, compares the tensors in it with the class
that the part is loaded into, and loads the weights."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtake.errors import BadCheckpoint
from longtake.imports import importing_models
from longtake.models import layouts
from longtake.models.layout import Class, Layout, PublishedConfig
from longtake.models.part_settings import arguments, check_known, log_ignored, with_effect
from longtake.models.quantised import configured_kind, refusal, split_scales
from longtake.models.registry import PART_NAMES, PartName
from longtake.models.safe import FLOATS, Header, TensorInfo, inside, read_header, read_json, read_tensors
from longtake.models.text_encoders import TEXT_ENCODERS, class_names, unchanged

if TYPE_CHECKING:
    import torch

_WEIGHT_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
"""The names of the weight file in a folder, in diffusers' and in transformers' layout. The weights may also be split
over several files with a `.index.json`."""

_MAX_SIZE = 2**20
"""The largest integer, such as a width, that the `config.json` of a model's part may contain.

It limits the time to build a part from an untrusted file.
"""

_MAX_LAYERS = 256
"""The largest number of layers or blocks that the `config.json` of a model's part may set, and of entries in a list."""

_MAX_DEPTH = 8
"""The largest number of nested JSON objects and lists in the `config.json` of a model's part."""


@dataclass(frozen=True)
class Weight:
    """One tensor of a checkpoint.

    file: the safetensors file that holds it.
    key: its name in that file.
    info: its dtype and shape in that file.
    scale: the tensor with its scale, for a weight in 8-bit floats; None for any other weight.
    """

    file: Path
    key: str
    info: TensorInfo
    scale: "Weight | None" = None


@dataclass(frozen=True)
class Checkpoint:
    """A part of a model on disk. Its headers have been read; its weights have not.

    path: the folder or single file that holds the part.
    cls: the class of the part in diffusers or transformers.
    config: the settings that the class is built with.
    weights: the part's tensors, by their names in the class.
    """

    part: PartName
    path: Path
    cls: Class
    config: Mapping[str, Any]
    weights: Mapping[str, Weight]

    @property
    def num_elements(self) -> int:
        """The number of values in all tensors of this part of a model, buffers included."""
        return sum(math.prod(weight.info.shape) for weight in self.weights.values())

    @property
    def scaled(self) -> list[str]:
        """The names of the weights that are in 8-bit floats with a scale."""
        return [name for name, weight in self.weights.items() if weight.scale is not None]


@dataclass(frozen=True)
class Differences:
    """The differences between a checkpoint's tensors and those of the module class into which it is loaded.

    missing: names that only the class has.
    unknown: names that only the checkpoint has.
    misshapen: texts for messages, one for each tensor whose shape is not the class's or whose dtype is not a float. A
        text has the tensor's name and both shapes.
    """

    missing: Sequence[str]
    unknown: Sequence[str]
    misshapen: Sequence[str]

    @property
    def are_none(self) -> bool:
        return not (self.missing or self.unknown or self.misshapen)

    def sentence(self) -> str:
        """Returns the differences in words for messages: for each kind, how many there are and the first four names.

        The text is empty if there are no differences.
        """
        kinds = (("missing", self.missing), ("unknown", self.unknown), ("of another shape or kind", self.misshapen))
        return "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds if names)


def _some(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (" and others" if len(names) > count else "")


def open_part(part: PartName, path: Path) -> Checkpoint:
    """Returns the checkpoint of a part at `path`. Reads headers only.

    path: a folder as diffusers or transformers saves a part, with its `config.json`; or a single safetensors file as
        the model's publisher offers it, which may hold several parts.
    Raises `BadCheckpoint` in these cases:
    - A file is missing or is not a valid safetensors file, or its weights are quantised.
    - `path` does not hold the part.
    - The part's class does not support a setting.
    """
    return _open_folder(part, path) if path.is_dir() else _open_single(part, path)


def _open_folder(part: PartName, folder: Path) -> Checkpoint:
    config = read_json(inside(folder, "config.json"))
    cls = _class(part, folder, config)
    kind = configured_kind(config)
    if kind is not None:
        raise BadCheckpoint(f"{folder} {refusal(kind)}.")
    rename = TEXT_ENCODERS.get(cls, unchanged)
    stored: dict[str, Weight] = {}
    for file in _files(folder):
        for key, info in read_header(file).tensors.items():
            if key in stored:
                raise BadCheckpoint(f"{folder} holds the weight {key[:100]} twice.")
            stored[key] = Weight(file, key, info)
    weights: dict[str, Weight] = {}
    for key, weight in _with_scales(folder, stored).items():
        name = rename(key)
        if name in weights:
            raise BadCheckpoint(f"{folder} holds the weight {key[:100]} twice.")
        weights[name] = weight
    return Checkpoint(part, folder, cls, config, weights)


def _class(part: PartName, folder: Path, config: Mapping[str, Any]) -> Class:
    """Returns the class of a model's part in a folder, which the folder's `config.json` names.

    config: the content of that file.
    Raises `BadCheckpoint` if the file names none of the classes that the part may have.
    """
    allowed = layouts.classes_of(part)
    names = class_names(config) if part == "text_encoder" else [str(config.get("_class_name"))]
    found = next((cls for cls in allowed if cls[1] in names), None)
    if found is None:
        raise BadCheckpoint(
            f"{folder / 'config.json'} is of class {(', '.join(names) or 'None')[:80]}, not "
            f"{' or '.join(name for _, name in allowed)}."
        )
    return found


def _files(folder: Path) -> list[Path]:
    """Returns the files that hold a folder's weights. Raises `BadCheckpoint` if there are none."""
    for name in _WEIGHT_FILES:
        if (folder / name).exists():
            return [inside(folder, name)]
        if (folder / f"{name}.index.json").exists():
            index = read_json(inside(folder, f"{name}.index.json")).get("weight_map")
            if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
                raise BadCheckpoint(f"{folder / name}.index.json has no weight_map of file names.")
            return [inside(folder, file) for file in sorted(set(index.values()))]
    raise BadCheckpoint(f"{folder} holds no weights: neither {' nor '.join(_WEIGHT_FILES)}, whole or with an index.")


def parts_in(file: Path) -> tuple[PartName, ...]:
    """Returns the parts that a single file holds.

    The tuple is empty if the names of the file's tensors are not those of any known model. Raises `BadCheckpoint` for a
    file that is no valid safetensors file.
    """
    header = read_header(file)
    # If `config` is broken, only the tensors' names decide here, and `open_part` later reports the broken `config`.
    layout = layouts.layout_of(header.tensors, _published_config(header) or {})
    held = {layout.part_of(key) for key in header.tensors} if layout else set()
    return tuple(part for part in PART_NAMES if part in held)


def _with_scales(path: Path, stored: Mapping[str, Weight]) -> dict[str, Weight]:
    """Returns the tensors of a checkpoint except the scales. A weight in 8-bit floats has its scale, the factor that
    its values are multiplied by."""
    keys, scales = split_scales(path, {key: weight.info for key, weight in stored.items()})
    return {key: replace(stored[key], scale=stored[scales[key]] if key in scales else None) for key in keys}


def _open_single(part: PartName, file: Path) -> Checkpoint:
    header = read_header(file)
    stored = _with_scales(file, {key: Weight(file, key, info) for key, info in header.tensors.items()})
    layout, published = _recognised(file, header)
    names = _renamed(_names_of_part(part, file, stored, layout), lambda key: layout.rename(part, key, published))
    config = layout.settings(part, published, {ours: header.tensors[key].shape for ours, key in names.items()})
    weights = {ours: stored[key] for ours, key in names.items()}
    return Checkpoint(part, file, layout.classes[part], config, weights)


def _recognised(file: Path, header: Header) -> tuple[Layout, PublishedConfig]:
    """Returns the layout of a single file (how its publisher names weights and settings), and its published settings.

    Raises `BadCheckpoint` for a file that no layout recognises, and for settings that are not JSON objects.
    """
    published = _published_config(header)
    layout = layouts.layout_of(header.tensors, published or {})
    if published is None or (layout is not None and not _has_sections(published, layout)):
        raise BadCheckpoint(f"{file} has a `config` in its metadata that is not a sound JSON object.")
    if layout is None:
        known = ", ".join(layout.name for layout in layouts.LAYOUTS)
        found = _some(list(header.tensors)) or "none"
        raise BadCheckpoint(f"{file} is in no known layout ({known}); its weights are {found}.")
    return layout, published


def _published_config(header: Header) -> dict[str, Any] | None:
    """Returns the settings in a file's metadata: {} if there are none, None if they are not a JSON object."""
    text = header.metadata.get("config")
    try:
        config = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return None
    return config if isinstance(config, dict) else None


def _has_sections(published: PublishedConfig, layout: Layout) -> bool:
    """Returns True if each entry of `published` that `layout.sections` names is a JSON object or missing."""
    return all(isinstance(published.get(section, {}), dict) for section in layout.sections)


def _names_of_part(part: PartName, file: Path, keys: Iterable[str], layout: Layout) -> list[str]:
    """Returns the names of the weights in a file that belong to a part.

    keys: the names of the file's weights.
    layout: tells which part a tensor belongs to.
    Raises `BadCheckpoint` if the file has no tensor of the part, or has a tensor that belongs to no known part.
    """
    parts = {key: layout.part_of(key) for key in keys}
    unknown = [key for key, own in parts.items() if own is None]
    if unknown:
        raise BadCheckpoint(f"{file} holds {len(unknown)} weights of no known part: {_some(unknown)}.")
    names = [key for key, own in parts.items() if own == part]
    if not names:
        raise BadCheckpoint(f"{file} holds no {part}.")
    return names


def _renamed(keys: Sequence[str], rename: Callable[[str], str | None]) -> dict[str, str]:
    """Returns name in the module class -> name in the file, for each tensor that this class needs.

    keys: the tensors' names in the file.
    rename: takes such a name, and returns the name in the class, or None if the class does not need the tensor.
    Raises `BadCheckpoint` if two tensors of the file have the same name in the class.
    """
    names: dict[str, str] = {}
    for key in keys:
        ours = rename(key)
        if ours in names:
            raise BadCheckpoint(f"The weights {names[ours][:100]} and {key[:100]} are the same one.")
        if ours is not None:
            names[ours] = key
    return names


def empty_model(checkpoint: Checkpoint) -> "torch.nn.Module":
    """Returns the module of a model's part with its weights on the meta device, where they take no memory.

    Tensors that no checkpoint stores, such as rotary frequencies, are on the CPU with their values. Raises NotSupported
    if the class cannot be imported, and `BadCheckpoint` if it cannot be built with these settings or would take long.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class Unallocated(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            # Layers allocate their weights with `torch.empty`. Tables and frequencies are computed by other functions.
            return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))

    settings = with_effect(checkpoint.config)
    _check_sizes(checkpoint, "", settings)
    module, name = checkpoint.cls
    with importing_models():
        cls = getattr(import_module(module), name)
    try:
        with Unallocated():
            if checkpoint.part == "text_encoder":
                config = cls.config_class.from_dict(dict(checkpoint.config))
                log_ignored(checkpoint.path, config, checkpoint.config)
                model: torch.nn.Module = cls(config)
            else:
                model = cls.from_config(arguments(cls, settings))
                check_known(checkpoint.path, model, settings)
    except BadCheckpoint:
        raise
    except Exception as error:  # classes raise many errors for impossible settings
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise BadCheckpoint(f"The configuration of {checkpoint.path} builds no {name}: {reason}.") from error
    return model.eval().requires_grad_(False)


def _check_sizes(checkpoint: Checkpoint, name: str, value: Any, depth: int = 0) -> None:
    """Raises `BadCheckpoint` if a setting, or a value inside it, is above `_MAX_SIZE`, `_MAX_LAYERS` or `_MAX_DEPTH`.

    checkpoint: the checkpoint with the setting, for the message.
    name, value: the name and the value of the setting.
    depth: the number of JSON objects and lists that contain the value.
    """
    # Without these limits, a hostile configuration could take very long to build.
    if isinstance(value, Mapping | list | tuple):
        if len(value) > _MAX_LAYERS or depth > _MAX_DEPTH:
            raise BadCheckpoint(f"The configuration of {checkpoint.path} has {len(value)} entries in {name}.")
        for inner, item in value.items() if isinstance(value, Mapping) else ((name, item) for item in value):
            _check_sizes(checkpoint, str(inner), item, depth + 1)
        return
    limit = _MAX_LAYERS if "layers" in name or "blocks" in name else _MAX_SIZE
    if isinstance(value, int) and abs(value) > limit:
        raise BadCheckpoint(f"The configuration of {checkpoint.path} has {name} = {value}; the limit is {limit}.")


def compare(checkpoint: Checkpoint, model: "torch.nn.Module") -> Differences:
    """Returns the differences between a checkpoint's weights and those that a model needs.

    The model's own weights are not read, so it may be on the meta device.
    """
    needed = model.state_dict()
    tied = getattr(model, "_tied_weights_keys", None) or ()
    missing = [key for key in needed if key not in checkpoint.weights and key not in tied]
    unknown = [key for key in checkpoint.weights if key not in needed]
    misshapen = [
        f"{key} ({weight.info.dtype} {list(weight.info.shape)}, not a float of {list(needed[key].shape)})"
        for key, weight in checkpoint.weights.items()
        if key in needed and (weight.info.shape != tuple(needed[key].shape) or weight.info.dtype not in FLOATS)
    ]
    return Differences(missing, unknown, misshapen)


def load(checkpoint: Checkpoint, *, dtype: "torch.dtype", device: "torch.device | str" = "cpu") -> "torch.nn.Module":
    """Returns the module of a model's part with its weights, in `dtype` on `device`, in eval mode, without gradients.

    Linear layers of a transformer whose weights the file has in 8-bit floats keep them (see `fp8.Float8Linear`).
    Raises `BadCheckpoint` if weights are missing, are unknown to the class, have another shape than in the class or are
    not floats; the message names them.
    """
    from longtake.models import fp8

    model = empty_model(checkpoint)
    differences = compare(checkpoint, model)
    if not differences.are_none:
        raise BadCheckpoint(f"{checkpoint.path} does not fit {type(model).__name__}: {differences.sentence()}.")
    weights = checkpoint.weights
    scales = dict(
        read_tensors({name: (w.scale.file, w.scale.key) for name, w in weights.items() if w.scale is not None})
    )
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in read_tensors({name: (weight.file, weight.key) for name, weight in weights.items()}):
        # The library maps the file into memory. A copy stays the same if the file changes later.
        copy = tensor.to(device=device, dtype=tensor.dtype if name in scales else dtype, copy=True)
        if name not in scales:
            tensors[name] = copy
        elif checkpoint.part != "transformer" or not fp8.keeps_scaled(model, name, copy, scales[name]):
            tensors[name] = fp8.in_dtype(copy, scales[name].to(device), dtype)
    return with_weights(checkpoint, model, tensors, device)


def with_weights(
    checkpoint: Checkpoint,
    model: "torch.nn.Module",
    tensors: Mapping[str, "torch.Tensor"],
    device: "torch.device | str" = "cpu",
) -> "torch.nn.Module":
    """Puts weights into an empty model, and returns this model, on `device`, in eval mode, without gradients.

    model: the empty model, from `empty_model`.
    tensors: the weights on `device`, by their names in the class.
    Raises `BadCheckpoint`, with the path of `checkpoint`, if tensors without values are left.
    """
    import torch

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
