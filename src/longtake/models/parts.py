"""Loads all parts of a model, for any family, each in the dtype that suits it, and places them on the device."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from longtake.errors import BadCheckpoint, ModelNotInstalled
from longtake.imports import importing_models
from longtake.models import checkpoints, fp8, memory
from longtake.models.budget import TEXT_PARTS, TextPlace, copies_home, may_pin, text_leaves, text_place
from longtake.models.choice import not_installed
from longtake.models.compiled import BlockForward, CompiledBlocks, decide, warm_up
from longtake.models.merging import Originals, mergeable_bytes
from longtake.models.placement_text import described, shared
from longtake.models.registry import ModelCard, PartName, adapters, located
from longtake.models.replicas import Copy, Replicas, check_room
from longtake.models.text import TextEncoder
from longtake.models.vae_format import Format, use_fastest
from longtake.settings import Settings
from longtake.video import OnProgress, Progress

log = logging.getLogger(__name__)

EncoderT = TypeVar("EncoderT", bound=TextEncoder[Any])

ORDER: tuple[PartName, ...] = (
    "text_encoder",
    "connectors",
    "vae",
    "audio_vae",
    "vocoder",
    "upsampler",
    "transformer",
)
"""The order in which the parts of a model are loaded. The tokenizer is not in it: it has no weights, and is loaded
last."""


@dataclass(frozen=True)
class Loaded:
    """A model in memory.

    parts: part of the model, such as "vae" -> its module, in eval mode.
    tokenizer: the tokenizer of the `transformers` library.
    device: the device on which the model computes.
    copies: copies of the transformer on other devices.
    dtype: the transformer's dtype. Some parts have another one; see `memory.part_dtype`.
    offload: where the weights are (see `memory.Offload`).
    originals: copies of the transformer's weights, for merging adapters into them.
    text_place: where the text encoder's weights are while nothing is encoded: "device", or "pinned" or "host" (two
        kinds of host memory). If not "device", these weights are in host memory now.
    blocks: the compiled blocks of the transformer; None if they are not compiled.
    eight_bits: how the transformer uses 8-bit floats. If its blocks cannot be compiled, "products" means "storage".
    vae_format: the memory format of the VAE.
    sharing: how many slots of the server use the device.
    """

    parts: Mapping[PartName, Any]
    tokenizer: Any
    device: torch.device
    copies: tuple[Copy, ...]
    dtype: torch.dtype
    offload: memory.Offload
    originals: Originals
    text_place: TextPlace
    blocks: CompiledBlocks | None
    eight_bits: fp8.Mode
    vae_format: Format
    sharing: int

    @property
    def replicas(self) -> Replicas:
        """The transformer and its copies."""
        return Replicas(self.parts["transformer"], self.device, self.copies)

    @property
    def arithmetic(self) -> str:
        """Where and how the transformer and the VAE compute, in words for the user. If this text differs between two
        runs of a plan, their videos may differ slightly."""
        place = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        count = f"{self.replicas.count} x " if self.copies else ""
        among = f", which {self.sharing} slots share" if self.sharing > 1 else ""
        how = "compiled" if self.blocks is not None and self.blocks.is_on else "not compiled"
        stored = ", weights in fp8"
        products = ", products in fp8" if how == "compiled" else stored
        short = {"none": "", "storage": stored, "products": products}[self.eight_bits]
        vae = {"contiguous": "", "channels last": ", VAE channels last"}[self.vae_format]
        return f"{str(self.dtype).removeprefix('torch.')} on {count}{place}{among}, {how}{short}{vae}"

    def text_encoder(self, make: Callable[..., EncoderT], card: ModelCard, settings: Settings) -> EncoderT:
        """Returns the text encoder that `make` makes of those parts of the model that encode prompts.

        make: a subclass of `TextEncoder`. It gets the parts in the order of TEXT_PARTS, the tokenizer and, as keyword
            arguments, the number of tokens of a prompt, the device, the dtype, the size of the prompt cache, and where
            its weights are while it does not run.
        card: the model's card.
        """
        return make(
            *(self.parts[part] for part in TEXT_PARTS if part in self.parts),
            self.tokenizer,
            num_tokens=card.prompt_tokens,
            device=self.device,
            dtype=self.dtype,
            cache_entries=settings.prompt_cache_entries,
            place=self.text_place,
        )

    def compile_blocks(
        self, settings: Settings, evaluate: Callable[[Any, torch.device, torch.dtype], None], on_progress: OnProgress
    ) -> None:
        """Compiles the transformer's blocks now instead of at the first request, if they are to be compiled at all. If
        that fails, the transformer does not multiply in 8 bits either, which would only take longer.

        evaluate: called with the transformer, its device and its dtype, and then with each copy. It evaluates it on a
            few small frames.
        on_progress: receives the number of devices whose code is compiled as `step`, before each device and at the end.
        """
        if self.blocks is None:
            return
        transformer = self.parts["transformer"]
        on_each: list[Callable[[], None]] = [partial(evaluate, transformer, self.device, self.dtype)]
        for copy in self.copies:
            on_each.append(partial(_evaluate_there, copy, evaluate, self.dtype))
        for number, evaluate_one in enumerate(on_each):
            on_progress(Progress("load compiled blocks", number, len(on_each)))
            if self.blocks.is_on:
                warm_up(self.blocks, settings, evaluate_one)
        on_progress(Progress("load compiled blocks", len(on_each), len(on_each)))
        if not self.blocks.is_on:
            for one in (transformer, *(copy.transformer for copy in self.copies)):
                fp8.only_store(one)


def _evaluate_there(copy: Copy, evaluate: Callable[[Any, torch.device, torch.dtype], None], dtype: torch.dtype) -> None:
    """Evaluates a copy of the transformer in its thread, and waits for it."""
    copy.start(evaluate, copy.transformer, copy.device, dtype).result()


class PartSource(Protocol):
    """Where the parts of models come from. `InstalledParts`, the default, reads files on this machine."""

    def open(self, card: ModelCard, settings: Settings) -> Mapping[PartName, checkpoints.Checkpoint]:
        """Returns the checkpoints of a model's parts, except the tokenizer, in the order of loading. Reads no weights.

        Raises `ModelNotInstalled` if a part (such as the VAE) is missing, and `BadCheckpoint` if one does not fit its
        class.
        """

    def load(self, checkpoint: checkpoints.Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Any:
        """Returns the module of a model's part (such as the VAE) with its weights, in `dtype` on `device`."""

    def tokenizer(self, card: ModelCard, settings: Settings) -> Any:
        """Returns the tokenizer of a model."""


class InstalledParts:
    """Loads the parts of models, such as transformers, from their files on this machine. The usual `PartSource`."""

    def open(self, card: ModelCard, settings: Settings) -> Mapping[PartName, checkpoints.Checkpoint]:
        lacking = not_installed(card, settings)
        if lacking is not None:
            raise ModelNotInstalled(lacking)
        paths = located(card, settings)
        return {part: checkpoints.open_part(part, paths[part]) for part in ORDER if part in paths}

    def load(self, checkpoint: checkpoints.Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Any:
        return checkpoints.load(checkpoint, dtype=dtype, device=device)

    def tokenizer(self, card: ModelCard, settings: Settings) -> Any:
        return tokenizer(located(card, settings)["tokenizer"])


INSTALLED = InstalledParts()
"""Loads the parts of models (such as the transformer) from files on this machine. The library, the command line and the
server use it."""


def load_parts(
    card: ModelCard,
    settings: Settings,
    on_progress: OnProgress,
    source: PartSource = INSTALLED,
    block_forward: BlockForward | None = None,
    prepare_transformer: Callable[[Any], None] = lambda transformer: None,
) -> Loaded:
    """Returns a model with all its parts (such as the VAE) in memory, placed on the device that the setting `device`
    names.

    on_progress: receives the number of parts loaded so far as `step`, before each part and at the end.
    source: where the parts come from; by default, files on this machine.
    block_forward: the computation that is compiled for the transformer's blocks, if `compiled.decide` says that they
        are compiled. With None they are never compiled, and keep their own forward pass.
    prepare_transformer: called with the loaded transformer, before hooks for casting and offloading are added to it.
    Raises `ModelNotInstalled` if a part is missing, `BadCheckpoint` if one does not fit its class, and `NotSupported`
    if this machine does not have the device, if a further device has no room for a copy of the transformer, or if this
    machine cannot compile though the settings demand it.
    """
    opened = source.open(card, settings)
    device, *others = memory.choose_devices(settings)
    dtype = memory.choose_dtype(settings, device, embedded=card.embedded)
    decision = decide(settings, device)
    blocks = CompiledBlocks(block_forward) if decision.is_on and block_forward is not None else None
    memories = memory.memories(device, settings.slots)
    is_short = needs_short_text(settings, part_bytes(opened, dtype, "none"), memories.device)
    sizes_in = partial(part_bytes, opened, dtype, has_short_text=is_short)
    mode, why = choose_mode(settings, device, sizes_in, are_compiled=blocks is not None)
    sizes = sizes_in(mode)
    if memories.device is None and others:  # the copies are in the same memory
        sizes["copies"] = len(others) * sizes["transformer"]
    free = memory.free_bytes(device)
    offload = memory.choose_offload(settings.offload, sizes, memories.device, free)
    streamed = memory.streamed_parts(settings.offload, offload, sizes, memories.device)
    check_room(others, sizes["transformer"], is_streamed="transformer" in streamed)
    leaving = TEXT_PARTS if offload == "none" and text_leaves(sizes, memories) else ()
    # Weights that are rounded to 8 bits are loaded onto the device, too, if it has room for them before that.
    has_room = free is None or sum(sizes_in("none").values()) <= free
    parts: dict[PartName, Any] = {}

    def load_transformer(place: torch.device, *, direct: bool) -> Any:
        loaded = source.load(opened["transformer"], dtype, place if direct else "cpu")
        prepare_transformer(loaded)
        if blocks is not None:
            blocks.attach(loaded)
        fp8.convert(loaded, mode, dtype, place)
        return loaded

    vae_format: Format = "contiguous"
    for step, (part, checkpoint) in enumerate(opened.items()):
        on_progress(Progress(f"load {part}", step, len(opened)))
        is_rounded = {"transformer": mode != "none", "text_encoder": is_short}.get(part, False)
        direct = offload == "none" and (has_room or not is_rounded) and part not in leaving
        if part == "transformer":
            parts[part] = load_transformer(device, direct=direct)
            continue
        parts[part] = source.load(checkpoint, memory.part_dtype(part, dtype), device if direct else "cpu")
        if part == "text_encoder" and is_short:
            fp8.convert_text(parts[part], device)
        if part == "vae":
            vae_format = use_fastest(parts[part], card, memory.part_dtype(part, dtype), device, settings)
    copies = list[Copy]()
    for other in others:
        on_progress(Progress("load transformer", len(opened), len(opened)))
        their_free = memory.free_bytes(other)
        fits = mode == "none" or their_free is None or sizes_in("none")["transformer"] <= their_free
        copies.append(Copy(load_transformer(other, direct=fits).to(other), other))
    pinned = may_pin(sum(sizes.values()), memories)
    staying = {part: module for part, module in parts.items() if part not in leaving}
    memory.place(staying, device, offload, pinned=pinned, streamed=streamed)
    on_progress(Progress("load", len(opened), len(opened)))
    usual = memory.choose_offload(settings.offload, sizes, memories.device, memories.device)
    home = copies_home(sizes, mergeable_bytes(parts["transformer"]), usual, memories)
    originals_stay = offload == "model" and device.type == "cuda" and home != "none"
    if originals_stay:
        home = "pinned" if pinned else "host"
    place = text_place(sizes, home, memories) if leaving else "device"
    log.info("%s: %s", card.name, described(offload, home, place, streamed, pinned=pinned))
    if memory.num_sharing() > 1:
        log.info("%s", shared(memory.num_sharing(), memories))
    if copies:
        log.info("%s compute together; each has a copy of the transformer.", " and ".join(map(str, (device, *others))))
    log.info("The transformer's blocks are %s (%s).", "compiled" if blocks else "not compiled", decision.reason)
    log.info("%s", why)
    if is_short:
        log.info("The text encoder's weights are stored in 8 bits, because otherwise the GPU has no room for them.")
    originals = Originals(home)
    if originals_stay:
        originals.use_weights(parts["transformer"])
    elif home in ("pinned", "host") and adapters(card, settings):
        originals.copy_all(parts["transformer"])  # takes seconds, which the first request would wait for
    return Loaded(
        parts,
        source.tokenizer(card, settings),
        device,
        tuple(copies),
        dtype,
        offload,
        originals,
        place,
        blocks,
        mode,
        vae_format,
        memory.num_sharing(),
    )


TOO_LARGE = (
    "The blocks' weights are stored in 8 bits and converted when a layer runs, because with products in 8 bits the "
    "transformer would not fit into the device's memory."
)


def needs_short_text(settings: Settings, sizes: Mapping[str, int], total: int | None) -> bool:
    """Returns True if the weights of the text encoder are stored in 8 bits: if the settings allow it, and the device
    has no room for them otherwise.

    sizes: the bytes of each part of the model without 8-bit floats.
    total: the bytes of the device's memory; None for a device that shares the host's memory.
    """
    return settings.quantise == "fp8" and "text_encoder" in sizes and memory.lacks_room("text_encoder", sizes, total)


def part_bytes(
    opened: Mapping[PartName, checkpoints.Checkpoint],
    dtype: torch.dtype,
    mode: fp8.Mode,
    *,
    has_short_text: bool = False,
) -> dict[str, int]:
    """Returns the bytes of the weights of each part of a model, such as the VAE.

    opened: the parts' checkpoints.
    dtype: the transformer's dtype.
    mode: how the transformer uses 8-bit floats.
    has_short_text: True if the weights of the text encoder are stored in 8 bits.
    """
    sizes: dict[str, int] = {
        part: checkpoint.num_elements * memory.part_dtype(part, dtype).itemsize for part, checkpoint in opened.items()
    }
    if "transformer" in opened:
        sizes["transformer"] = fp8.num_bytes(_shapes(opened["transformer"]), mode, dtype, opened["transformer"].scaled)
    if "text_encoder" in opened and has_short_text:
        shapes = _shapes(opened["text_encoder"])
        usual = memory.part_dtype("text_encoder", dtype)
        sizes["text_encoder"] = fp8.stored_bytes(shapes, fp8.chosen_in_text(shapes), usual)
    return sizes


def _shapes(checkpoint: checkpoints.Checkpoint) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the weights in a checkpoint, by name."""
    return {name: weight.info.shape for name, weight in checkpoint.weights.items()}


def choose_mode(
    settings: Settings, device: torch.device, sizes: Callable[[fp8.Mode], Mapping[str, int]], *, are_compiled: bool
) -> tuple[fp8.Mode, str]:
    """Returns how the transformer of a model uses 8-bit floats, and a sentence for the log about it.

    It is "none" (not at all), "storage" (weights are stored in 8 bits) or "products" (they are also multiplied in 8
    bits).

    sizes: a function of a mode that returns the bytes of the weights of each part of the model.
    are_compiled: True if the transformer's blocks are compiled.
    """
    wanted, why = fp8.choose_mode(settings, device, are_compiled=are_compiled)
    mode = without_streaming(wanted, sizes, memory.device_bytes(device))
    return mode, why if mode == wanted else TOO_LARGE


def without_streaming(mode: fp8.Mode, sizes: Callable[[fp8.Mode], Mapping[str, int]], total: int | None) -> fp8.Mode:
    """Returns `mode`, the use of 8-bit floats, with one exception: "storage" instead of "products", if the transformer
    must be streamed (copied to the device layer by layer in each step) with "products", but not with "storage".

    "products" keeps a part of the weights in the usual dtype, so it needs more memory than "storage".

    sizes: a function of a mode that returns the bytes of the weights of each part of the model.
    total: the bytes of the device's memory; None for a device that shares the host's memory, where nothing is streamed.
    """
    if mode != "products":
        return mode
    with_products, stored = (memory.choose_offload("auto", sizes(each), total, total) for each in (mode, "storage"))
    return "storage" if with_products == "group" != stored else mode


def tokenizer(folder: Path) -> Any:
    """Returns the tokenizer in a folder. Code in the folder is never run.

    Raises `BadCheckpoint` if the folder holds no usable tokenizer.
    """
    with importing_models():
        from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many errors for broken files
        raise BadCheckpoint(f"{folder} holds no usable tokenizer: {str(error)[:200]}.") from error
