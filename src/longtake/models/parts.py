"""Loads all parts of a model, for any family, each in the dtype that suits it, and places them on the device."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch

from longtake.errors import BadCheckpoint, ModelNotInstalled
from longtake.imports import importing_models
from longtake.models import checkpoints, fp8, memory
from longtake.models.budget import TEXT_PARTS, TextPlace
from longtake.models.choice import not_installed
from longtake.models.compiled import BlockForward, CompiledBlocks, decide, warm_up
from longtake.models.merging import Originals, mergeable_bytes
from longtake.models.placement import Placement, plan
from longtake.models.placement_text import described
from longtake.models.registry import ModelCard, PartName, adapters, located
from longtake.models.replicas import Copy, Replicas
from longtake.models.text import TextEncoder
from longtake.models.vae_format import Format, use_fastest
from longtake.settings import Settings
from longtake.video import OnProgress, Progress

log = logging.getLogger(__name__)

TextT = TypeVar("TextT", bound=TextEncoder[Any])
CardT = TypeVar("CardT", bound=ModelCard)

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
    """The parts of a model in memory.

    parts: part of the model, such as "vae" -> its module, in eval mode.
    tokenizer: the tokenizer of the `transformers` library.
    placement: how the weights are held.
    copies: copies of the transformer on other devices.
    originals: copies of the transformer's weights, for merging adapters into them.
    text_place: where the text encoder's weights are while nothing is encoded. If not "device", these weights are in
        host memory now.
    blocks: the compiled blocks of the transformer; None if they are not compiled.
    vae_format: the memory format of the VAE.
    sharing: how many slots of the server use the device.
    """

    parts: Mapping[PartName, Any]
    tokenizer: Any
    placement: Placement
    copies: tuple[Copy, ...]
    originals: Originals
    text_place: TextPlace
    blocks: CompiledBlocks | None
    vae_format: Format
    sharing: int

    @property
    def arithmetic(self) -> str:
        """Where and how the transformer and the VAE compute, in words for the user. If this text differs between two
        runs of a plan, their videos may differ slightly."""
        device, dtype = self.placement.device, str(self.placement.dtype).removeprefix("torch.")
        place = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        count = f"{1 + len(self.copies)} x " if self.copies else ""
        among = f", which {self.sharing} slots share" if self.sharing > 1 else ""
        how = "compiled" if self.blocks is not None and self.blocks.is_on else "not compiled"
        # If compiling fails, layers that multiply in 8 bits only store their weights in them.
        stored = ", weights in fp8"
        products = ", products in fp8" if how == "compiled" else stored
        short = {"none": "", "storage": stored, "products": products}[self.placement.eight_bits]
        vae = {"contiguous": "", "channels last": ", VAE channels last"}[self.vae_format]
        return f"{dtype} on {count}{place}{among}, {how}{short}{vae}"

    def text_encoder(self, make: Callable[..., TextT], card: ModelCard, settings: Settings) -> TextT:
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
            device=self.placement.device,
            dtype=self.placement.dtype,
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
        transformer, dtype = self.parts["transformer"], self.placement.dtype
        on_each: list[Callable[[], None]] = [partial(evaluate, transformer, self.placement.device, dtype)]
        for copy in self.copies:
            on_each.append(partial(_evaluate_there, copy, evaluate, dtype))
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


@dataclass(frozen=True)
class LoadedModel(Generic[CardT, TextT]):
    """A loaded model in eval mode.

    card: the model card, with the facts of the model.
    text: the text encoder.
    replicas: the transformer and its copies on other devices. It is of diffusers' class, with a forward pass of its
        own (`models.video_transformer`, `models.audiovisual`).
    vae: diffusers' video autoencoder.
    upsampler: diffusers' upsampler of latents; None if it is not installed.
    device: the device that inputs must be on. Offloaded weights move there by themselves.
    originals: copies of the transformer's weights, for merging adapters into them.
    arithmetic: where and how the transformer and the VAE compute, in words.
    """

    card: CardT
    text: TextT
    replicas: Replicas
    vae: Any
    upsampler: Any | None
    device: torch.device
    originals: Originals
    arithmetic: str

    @classmethod
    def of(cls, card: CardT, text: TextT, loaded: Loaded, **others: Any) -> Self:
        """Returns a model of loaded parts. `others` are the further fields of a subclass."""
        parts, device = loaded.parts, loaded.placement.device
        return cls(
            card,
            text,
            Replicas(parts["transformer"], device, loaded.copies),
            parts["vae"],
            parts.get("upsampler"),
            device,
            loaded.originals,
            loaded.arithmetic,
            **others,
        )

    @property
    def transformer(self) -> Any:
        """The transformer on `device`."""
        return self.replicas.transformer


AnyModel = LoadedModel[Any, Any]
"""A loaded model of any family."""


class PartSource(Protocol):
    """Where the parts of models come from. `InstalledParts`, the default, reads files on this machine."""

    def open(self, card: ModelCard, settings: Settings) -> Mapping[PartName, checkpoints.Checkpoint]:
        """Returns the checkpoints of a model's parts, except the tokenizer, in the order of loading. Reads no weights.

        Raises `ModelNotInstalled` if a part is missing, and `BadCheckpoint` if one does not fit its class.
        """

    def load(self, checkpoint: checkpoints.Checkpoint, dtype: torch.dtype, device: torch.device | str) -> Any:
        """Returns the module of a model's part with its weights, in `dtype` on `device`."""

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
    """Returns a model with all its parts in memory, placed on the device that the setting `device` names.

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
    device = memory.choose_device(settings)
    decision = decide(settings, device)
    blocks = CompiledBlocks(block_forward) if decision.is_on and block_forward is not None else None
    placement, reason = plan(card, opened, settings, are_compiled=blocks is not None)

    def load(part: PartName, place: torch.device, *, direct: bool) -> Any:
        dtype = memory.part_dtype(part, placement.dtype)
        loaded = source.load(opened[part], dtype, place if direct else "cpu")
        if part == "transformer":
            prepare_transformer(loaded)
            if blocks is not None:
                blocks.attach(loaded)
            fp8.convert(loaded, placement.eight_bits, dtype, place)
        if part == "text_encoder" and placement.has_short_text:
            fp8.convert_text(loaded, place)
        return loaded

    parts: dict[PartName, Any] = {}
    vae_format: Format = "contiguous"
    for step, part in enumerate(opened):
        on_progress(Progress(f"load {part}", step, len(opened)))
        parts[part] = load(part, device, direct=part in placement.direct)
        if part == "vae":
            vae_format = use_fastest(parts[part], card, memory.part_dtype(part, placement.dtype), device, settings)
    copies = list[Copy]()
    for other, direct in zip(placement.room.devices[1:], placement.direct_copies, strict=True):
        on_progress(Progress("load transformer", len(opened), len(opened)))
        copies.append(Copy(load("transformer", other, direct=direct).to(other), other))
    staying = {part: module for part, module in parts.items() if part not in placement.leaving}
    memory.place(staying, device, placement.offload, pinned=placement.pinned, streamed=placement.streamed)
    on_progress(Progress("load", len(opened), len(opened)))
    originals = _originals(placement, parts["transformer"], has_adapters=bool(adapters(card, settings)))
    text_place = placement.text_place(originals.home)
    for sentence in described(card.name, placement, originals.home, text_place, memory.num_sharing()):
        log.info("%s", sentence)
    log.info("The transformer's blocks are %s (%s).", "compiled" if blocks else "not compiled", decision.reason)
    log.info("%s", reason)
    return Loaded(
        parts,
        source.tokenizer(card, settings),
        placement,
        tuple(copies),
        originals,
        text_place,
        blocks,
        vae_format,
        memory.num_sharing(),
    )


def _originals(placement: Placement, transformer: Any, *, has_adapters: bool) -> Originals:
    """Returns the copies of a transformer's weights. `has_adapters` is True if the model has adapters of its own."""
    originals = Originals(placement.home(mergeable_bytes(transformer)))
    if placement.keeps_originals:
        originals.use_weights(transformer)
    elif originals.home in ("pinned", "host") and has_adapters:
        originals.copy_all(transformer)  # takes seconds, which the first request would wait for
    return originals


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
