"""Finds the layers of a transformer that a LoRA changes, and refuses a LoRA that does not fit."""

from collections import Counter
from collections.abc import Mapping

import torch

from longtake.errors import InvalidRequest, Loc
from longtake.models.lora_header import LoraHeader, Shapes, count_names
from longtake.models.transformer_keys import flat, published_key


def check_fit(header: LoraHeader, transformer: torch.nn.Module, loc: Loc = ()) -> None:
    """Raises `InvalidRequest` if a LoRA does not fit a transformer.

    It does not fit if it changes a module that is no linear layer of the transformer, or that has another shape there.
    The transformer's weights are not read, so they may be on the meta device.

    loc: the path of the request's field that named the LoRA, for the error.
    """
    own_names(linear_layers(transformer), header.name, header.shapes, loc)


def linear_layers(transformer: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """Returns the linear layers of a transformer: name -> layer."""
    return {name: layer for name, layer in transformer.named_modules() if isinstance(layer, torch.nn.Linear)}


def own_names(linear: Mapping[str, torch.nn.Linear], name: str, shapes: Shapes, loc: Loc) -> dict[str, str]:
    """Returns a mapping from each module's name in the LoRA to its name in the transformer.

    linear: the transformer's linear layers by name.
    name: the LoRA's file name, for messages.
    shapes: module's name in the LoRA -> the shapes of the matrices A and B.
    loc: the path of the request's field that named the LoRA, for errors.
    Raises `InvalidRequest` in these cases:
    - A module of the LoRA is no linear layer of the transformer, or has another shape than that layer.
    - The LoRA names a module twice, in two spellings.
    """
    known = {flat(spelling): own for own in linear for spelling in (published_key(own), own)}
    known |= {own: own for own in linear}
    unknown = [module for module in shapes if module not in known]
    if unknown:
        reason = count_names(unknown, "module")
        raise InvalidRequest(f"The LoRA {name} does not fit the model, which lacks {reason}.", loc=loc, value=name)
    repeated = [own for own, count in Counter(known[module] for module in shapes).items() if count > 1]
    if repeated:
        reason = count_names(repeated, "module")
        raise InvalidRequest(f"The LoRA {name} has two spellings of {reason}.", loc=loc, value=name)
    for module, (a, b) in shapes.items():
        layer = linear[known[module]]
        if (b[0], *a[1:]) != (layer.out_features, layer.in_features):
            raise InvalidRequest(
                f"The LoRA {name} does not fit the model: {known[module]} is {layer.out_features} x "
                f"{layer.in_features}, its change {b[0]} x {', '.join(str(size) for size in a[1:])}.",
                loc=loc,
                value=name,
            )
    return {module: known[module] for module in shapes}
