"""Chooses the memory format of a video VAE: the order in which its numbers are in memory.

Which format is faster depends on the GPU and on the versions of torch and cuDNN, so it is measured when a model is
loaded for the first time. The two formats give different bits. So the choice is kept in a file, and later processes on
the machine make the same one. cuDNN itself never chooses by measuring (`torch.backends.cudnn.benchmark` is off),
because it would choose again in each process.
"""

import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from longtake.atomic import create
from longtake.models.registry import ModelCard
from longtake.settings import Settings

log = logging.getLogger(__name__)

Format = Literal["contiguous", "channels last"]
"""The order of the numbers of a tensor [B, C, F, H, W] in memory.

contiguous: the order of the axes; torch's default.
channels last: the channels of one position are next to each other (`torch.channels_last_3d`).
"""

FORMATS: tuple[Format, ...] = get_args(Format)

LEAST_GAIN = 0.05
"""Channels last is used if decoding takes less time by at least this share. A smaller gain can be chance."""

LATENTS = (4, 16, 24)
"""The number of frames, height and width of the latents whose decoding is measured. With the published models they are
25 frames of 768x512, which take about 1 GB."""

ROUNDS = 3
"""The number of measured decodings in each format."""

Timing = Callable[[Any, torch.device], float]
"""A function of a VAE and its device that returns the seconds of one decoding."""


@dataclass(frozen=True)
class FormatKey:
    """The model, the GPU and the software for which a format was chosen.

    model: the model's name.
    dtype: the VAE's dtype, such as "bfloat16".
    gpu: the GPU's name.
    capability: the GPU's compute capability, such as "9.0".
    torch_version: torch's version.
    cudnn_version: cuDNN's version; None if torch has none.
    """

    model: str
    dtype: str
    gpu: str
    capability: str
    torch_version: str
    cudnn_version: int | None

    @classmethod
    def of(cls, card: ModelCard, dtype: torch.dtype, device: torch.device) -> "FormatKey":
        """Returns the key of a model whose VAE has this dtype, on a CUDA GPU."""
        return cls(
            card.name,
            str(dtype).removeprefix("torch."),
            torch.cuda.get_device_name(device),
            ".".join(map(str, torch.cuda.get_device_capability(device))),
            torch.__version__,
            torch.backends.cudnn.version(),
        )

    def path(self, folder: Path) -> Path:
        """Returns the path of the file in which the choice is kept."""
        digest = sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]
        return folder / f"vae-{self.model}-{digest}.json"


def use_fastest(vae: Any, card: ModelCard, dtype: torch.dtype, device: torch.device, settings: Settings) -> Format:
    """Brings the weights of a VAE into the faster format on `device`, and returns that format.

    It must be called before hooks that move the weights are added. The VAE can be in host memory; it is moved to the
    device for a measurement only. If nothing is measured (see `is_measured`), the VAE stays contiguous.

    vae: diffusers' video autoencoder of LTX-Video or LTX-2, contiguous.
    card: the model's card.
    dtype: the VAE's dtype.
    """
    if not is_measured(card, device):
        return "contiguous"
    chosen = choose(vae, FormatKey.of(card, dtype, device), settings.compiled_dir, device)
    set_format(vae, chosen)
    return chosen


def is_measured(card: ModelCard, device: torch.device) -> bool:
    """Returns True if the format of a model's VAE is chosen by measuring: on a CUDA GPU, unless the model's weights are
    in the package, because such a small model decodes in milliseconds."""
    return device.type == "cuda" and not card.embedded


def choose(vae: Any, key: FormatKey, folder: Path, device: torch.device, timing: Timing | None = None) -> Format:
    """Returns the format that a file in `folder` has for `key`. If there is no such file, measures both formats, and
    writes the faster one to it.

    If several processes measure at the same time, the choice of the first one that has written the file is everybody's.
    If the file cannot be read or written, each process measures for itself, and the log says so. If measuring fails,
    the format is "contiguous", and nothing is written.
    """
    path, timing = key.path(folder), timing or decode_seconds
    try:
        found = saved_format(path)
    except (OSError, ValueError) as error:
        log.warning("Each process measures the VAE's memory format again: %s cannot be read (%s).", path, error)
        return _measured(vae, device, timing)[0]
    if found is not None:
        log.info("The VAE computes with its numbers %s, as %s says.", found, path)
        return found
    chosen, seconds = _measured(vae, device, timing)
    if not seconds:
        return chosen
    content = json.dumps({"format": chosen, "seconds": seconds, "measured with": asdict(key)}, indent=2) + "\n"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return chosen if create(path, content.encode()) else saved_format(path) or chosen
    except (OSError, ValueError) as error:
        log.warning("Each process measures the VAE's memory format again: %s cannot be written (%s).", path, error)
    return chosen


def saved_format(path: Path) -> Format | None:
    """Returns the format in a file; None if the file does not exist.

    Raises OSError if the file cannot be read, and ValueError if it has no known format.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    found = document.get("format") if isinstance(document, dict) else None
    for known in FORMATS:
        if found == known:
            return known
    raise ValueError(f"its format is {found!r}, not {' or '.join(FORMATS)}")


def described(key: FormatKey, folder: Path) -> str:
    """Returns for the user what `choose` will do, as a part of a sentence about the VAE's memory format."""
    path = key.path(folder)
    try:
        found = saved_format(path)
    except (OSError, ValueError) as error:
        return f"measured by each process, because {path} cannot be read ({error})"
    return "measured when the model is loaded for the first time" if found is None else f"{found}, as {path} says"


def faster(seconds: Mapping[Format, float]) -> Format:
    """Returns the format to use, from the seconds of a decoding in each."""
    limit = seconds["contiguous"] * (1 - LEAST_GAIN)
    return "channels last" if seconds["channels last"] <= limit else "contiguous"


def _measured(vae: Any, device: torch.device, timing: Timing) -> tuple[Format, dict[Format, float]]:
    """Returns the faster format, and the seconds of a decoding in each; "contiguous" and no seconds if that fails."""
    seconds: dict[Format, float] = {}
    home = next(vae.parameters()).device
    try:
        vae.to(device)
        for each in FORMATS:
            set_format(vae, each)
            seconds[each] = timing(vae, device)
    except RuntimeError as error:  # the memory ran out, or cuDNN has no kernel for a format
        log.warning("The VAE's memory formats could not be compared (%s), so its numbers are contiguous.", error)
        return "contiguous", {}
    finally:
        set_format(vae, "contiguous")
        vae.to(home)
    chosen = faster(seconds)
    log.info("The VAE computes with its numbers %s. A short decoding took %s.", chosen, _milliseconds(seconds))
    return chosen, seconds


def _milliseconds(seconds: Mapping[Format, float]) -> str:
    return " and ".join(f"{value * 1000:.0f} ms {name}" for name, value in seconds.items())


def decode_seconds(vae: Any, device: torch.device) -> float:
    """Returns the median seconds of some decodings of a small clip, after one that is not measured."""
    config = vae.config
    generator = torch.Generator(device).manual_seed(0)
    latent = torch.randn(1, config.latent_channels, *LATENTS, generator=generator, device=device, dtype=vae.dtype)
    timestep = torch.zeros(1, device=device, dtype=vae.dtype) if config.timestep_conditioning else None
    vae.disable_tiling()

    def seconds() -> float:
        torch.cuda.synchronize(device)
        started = time.perf_counter()
        vae.decode(latent, timestep, return_dict=False)
        torch.cuda.synchronize(device)
        return time.perf_counter() - started

    with torch.inference_mode():
        seconds()
        return statistics.median(seconds() for _ in range(ROUNDS))


def set_format(vae: nn.Module, format: Format) -> None:
    """Brings the weights of a VAE's convolutions into a format, and makes the activations enter them in it."""
    order = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last_3d}[format]
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=order)
        elif type(module).__name__ in CAUSAL:
            module.__dict__.pop("forward", None)
            if format == "channels last":
                module.forward = partial(_convolve, module)


CAUSAL = ("LTXVideoCausalConv3d", "LTX2VideoCausalConv3d")
"""Diffusers' classes of convolutions that repeat the first frame, or the first and the last one, as padding in time."""


def _convolve(module: Any, hidden: Tensor, causal: bool | None = None) -> Tensor:
    """Returns what a causal convolution's own forward pass returns, with all tensors channels last.

    The own forward pass pads with the result of `Tensor.repeat`, which is always contiguous. So the padded tensor is
    contiguous too, and each convolution would first have to bring it into the other order.

    hidden: [B, C, F, H, W] in any order.
    causal: True to pad before the first frame only; None if the module itself knows it.
    """
    padding = module.kernel_size[0] - 1
    if module.is_causal if causal is None else causal:
        before, after = padding, 0
    else:
        before = after = padding // 2
    hidden = hidden.contiguous(memory_format=torch.channels_last_3d)
    padded = torch.cat([*[hidden[:, :, :1]] * before, hidden, *[hidden[:, :, -1:]] * after], 2)
    result: Tensor = module.conv(padded)
    return result
