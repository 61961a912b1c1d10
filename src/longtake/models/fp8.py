"""Linear layers with weights in 8-bit floats (e4m3), and the products of such weights with activations in 8 bits.

torchao has such layers, too, but they do not run on a CPU; these do, and are tested there.
"""

import itertools
import re
from collections.abc import Collection, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from longtake.models.lora_fit import linear_layers
from longtake.settings import Settings

Mode = Literal["none", "storage", "products"]
"""How 8-bit floats are used in a transformer.

none: not at all.
storage: the linear layers of all blocks have 8-bit weights, which are converted to the usual dtype when a layer runs.
products: activations are rounded to 8 bits, too, and multiplied with the weights in 8 bits. The first and the last
    block and the attention to the prompt need more precision, so they have usual weights.
"""

LARGEST = 448
"""The largest value of an e4m3 float."""

OLDEST_CAPABILITY = (8, 9)
"""The least compute capability of a CUDA GPU that multiplies in 8 bits."""

STEP = 16
"""A GPU multiplies a weight matrix in 8 bits only if both of its dimensions are multiples of this number."""

_IN_BLOCK = re.compile(r"transformer_blocks\.(\d+)\.(.+)\.weight")
_IS_GATE = re.compile(r"(.+\.)?to_gate_logits")
_IS_TEXT_ATTENTION = re.compile(r"(audio_)?attn2\..+")


def choose_mode(settings: Settings, device: torch.device, *, are_compiled: bool) -> tuple[Mode, str]:
    """Returns how a transformer on `device` uses 8-bit floats, and a sentence for the log about it.

    are_compiled: True if the transformer's blocks are compiled. Otherwise, rounding the activations would take longer
        than the faster products save.
    """
    if settings.quantise == "none":
        return "none", "No weights are in 8 bits."
    stored = "The blocks' weights are stored in 8 bits and converted when a layer runs"
    if device.type != "cuda":
        return "storage", f"{stored}, because only a CUDA GPU multiplies in 8 bits."
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        return (
            "storage",
            f"{stored}, because the GPU's compute capability {capability[0]}.{capability[1]} is below 8.9.",
        )
    if not are_compiled:
        return "storage", f"{stored}, because products in 8 bits are faster only in compiled blocks."
    return "products", "The blocks multiply in 8 bits, except the first, the last, and the attention to the prompt."


class Float8Linear(nn.Linear):
    """A linear layer whose weight is in 8-bit floats, with one scale for each row.

    weight: [out, in] in e4m3.
    weight_scale: [out, 1] in float32. The layer's weight is weight * weight_scale.
    bias: [out], or None.
    multiplies: if True, each row of the input is rounded to 8 bits, with a scale of its own, and multiplied with the
        weight in 8 bits. If False, the weight is converted to the input's dtype.
    """

    weight_scale: Tensor

    def __init__(self, weight: Tensor, weight_scale: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("weight_scale", weight_scale)
        self.bias = bias  # type: ignore[assignment]
        self.multiplies = False

    def forward(self, input: Tensor) -> Tensor:
        if not self.multiplies:
            return linear(input, self.usual_weight(input.dtype), self.bias)
        short, scales = rounded_rows(input.flatten(0, -2))
        # Row-wise scales are supported for results in bfloat16 only.
        product = torch._scaled_mm(
            short,
            self.weight.t(),
            scale_a=scales,
            scale_b=self.weight_scale.t(),
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        output = product.to(input.dtype).reshape(*input.shape[:-1], self.out_features)
        return output if self.bias is None else output + self.bias

    def usual_weight(self, dtype: torch.dtype) -> Tensor:
        """Returns the layer's weight in another dtype, [out, in]."""
        return in_dtype(self.weight, self.weight_scale, dtype)


def in_dtype(short: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns the 8-bit floats `short` times their scale, in another dtype.

    scale: the factors of the 8-bit floats: one for the whole tensor, or one for each row.
    """
    # 8-bit floats are exact in all larger dtypes, and the product is rounded once.
    return short.to(dtype).mul_(scale.float().reshape(-1, *[1] * (short.ndim - 1)))


def rounded_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns (short, scales) of a matrix [n, k]: 8-bit floats [n, k] and a scale for each row, [n, 1] in float32.

    short * scales is the matrix, rounded. The largest value of each row becomes the largest 8-bit float.
    """
    values = rows.float()
    scales = values.abs().amax(-1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (values / scales).to(torch.float8_e4m3fn).contiguous(), scales


def in_eight_bits(layer: nn.Linear, device: torch.device | str) -> Float8Linear:
    """Returns a linear layer with its weight rounded to 8-bit floats. The new weight is on the device of the old one.

    device: the device that rounds the weight. The result is the same on every device.
    """
    weight = layer.weight.data
    short, scales = rounded_rows(weight.to(device))
    return Float8Linear(short.to(weight.device), scales.to(weight.device), layer.bias)


def in_usual_bits(layer: Float8Linear, dtype: torch.dtype) -> nn.Linear:
    """Returns a layer of 8-bit floats as an ordinary one in `dtype`."""
    usual = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    usual.weight = nn.Parameter(layer.usual_weight(dtype), requires_grad=False)
    usual.bias = layer.bias
    return usual.train(layer.training)


def install(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Replaces the model's layer with this name by `layer`."""
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


def keeps_scaled(model: nn.Module, weight: str, short: Tensor, scale: Tensor) -> bool:
    """If a weight belongs to a linear layer of the model, replaces that layer by one with 8-bit floats and returns
    True. Otherwise changes nothing and returns False.

    weight: the weight's name.
    short: its 8-bit floats.
    scale: the factors of the 8-bit floats: one for the whole tensor, or one for each row.
    """
    name = weight.rpartition(".")[0]
    layer = model.get_submodule(name)
    if not isinstance(layer, nn.Linear):
        return False
    rows = scale.float().reshape(-1, 1).expand(len(short), 1).to(short.device, copy=True).contiguous()
    install(model, name, Float8Linear(short, rows, layer.bias))
    return True


def convert(transformer: nn.Module, mode: Mode, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
    """Brings the linear layers of a transformer into the form that a mode needs.

    Layers that are in 8 bits already, as the file has them, are not rounded again. With the mode "none", which uses no
    8-bit floats, they get weights of `dtype`.

    mode: how 8-bit floats are used.
    dtype: the dtype of weights that are not in 8 bits.
    device: the device that computes 8-bit floats.
    """
    layers = linear_layers(transformer)
    shapes = {f"{name}.weight": tuple(layer.weight.shape) for name, layer in layers.items()}
    rounded, multiplied = chosen(shapes, mode), chosen(shapes, "products")
    for name, layer in layers.items():
        weight = f"{name}.weight"
        if isinstance(layer, Float8Linear):
            layer.multiplies = mode == "products" and weight in multiplied
            if mode == "none":
                install(transformer, name, in_usual_bits(layer, dtype))
        elif weight in rounded:
            short = in_eight_bits(layer, device).eval()
            short.multiplies = mode == "products"
            install(transformer, name, short)


def only_store(transformer: nn.Module) -> None:
    """Makes all layers with 8-bit weights convert these when they run, instead of multiplying in 8 bits."""
    for layer in transformer.modules():
        if isinstance(layer, Float8Linear):
            layer.multiplies = False


def convert_text(encoder: nn.Module, device: torch.device | str = "cpu") -> None:
    """Stores the weights of the linear layers of a text encoder as 8-bit floats.

    device: the device that computes 8-bit floats.
    """
    layers = linear_layers(encoder)
    rounded = chosen_in_text({f"{name}.weight": tuple(layer.weight.shape) for name, layer in layers.items()})
    for name, layer in layers.items():
        if f"{name}.weight" in rounded:
            install(encoder, name, in_eight_bits(layer, device).eval())


def chosen_in_text(shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Returns which weights of a text encoder are stored in 8 bits: the matrices in its layers, except those of a
    vision tower.

    shapes: the weights' names and shapes. Others than those of linear layers may be among them.
    """
    return {name for name, shape in shapes.items() if len(shape) == 2 and _is_in_text_layer(name)}


def _is_in_text_layer(name: str) -> bool:
    """Returns True for the name of a weight in a layer of a text encoder that can be stored in 8 bits.

    T5's table of relative positions cannot, nor T5's layer `wo`, whose input transformers converts to the dtype of its
    weight.
    """
    *modules, layer, last = ("", *name.split("."))
    is_inside = any(a in ("layers", "block") and b.isdecimal() for a, b in itertools.pairwise(modules))
    return is_inside and last == "weight" and "vision" not in name and not layer.startswith(("wo", "relative"))


def chosen(shapes: Mapping[str, tuple[int, ...]], mode: Mode) -> set[str]:
    """Returns which weights of a transformer are in 8 bits.

    shapes: the weights' names and shapes. Others than those of linear layers may be among them.
    mode: how 8-bit floats are used.
    """
    places = {name: found for name in shapes if (found := _IN_BLOCK.fullmatch(name)) and len(shapes[name]) == 2}
    ends = (0, max((int(place[1]) for place in places.values()), default=0))

    def is_chosen(name: str, place: re.Match[str]) -> bool:
        if mode == "none" or _IS_GATE.fullmatch(place[2]):
            return False
        if mode == "storage":
            return True
        is_exact = int(place[1]) in ends or _IS_TEXT_ATTENTION.fullmatch(place[2])
        return not is_exact and not any(size % STEP for size in shapes[name])

    return {name for name, place in places.items() if is_chosen(name, place)}


def num_bytes(
    shapes: Mapping[str, tuple[int, ...]], mode: Mode, dtype: torch.dtype, scaled: Collection[str] = ()
) -> int:
    """Returns the bytes of a transformer's weights with their scales.

    shapes: the weights' names and shapes.
    mode: how 8-bit floats are used.
    dtype: the dtype of all weights that are not in 8 bits.
    scaled: the names of weights that the file has in 8 bits. They stay in 8 bits unless `mode` is "none".
    """
    return stored_bytes(shapes, set() if mode == "none" else chosen(shapes, mode) | set(scaled), dtype)


def stored_bytes(shapes: Mapping[str, tuple[int, ...]], short: Collection[str], dtype: torch.dtype) -> int:
    """Returns the bytes of weights with their scales.

    shapes: the weights' names and shapes.
    short: the names of the weights in 8 bits.
    dtype: the dtype of the others.
    """
    total = 0
    for name, shape in shapes.items():
        elements = torch.Size(shape).numel()
        total += elements + 4 * shape[0] if name in short else elements * dtype.itemsize
    return total
