"""Compiles the blocks of a transformer with `torch.compile`: once for all blocks of a model and all sizes of requests.

The bits of a result must not depend on what the process computed before. So the code is compiled for any number of
tokens from the beginning. Every other difference, such as another dtype, gets compiled code of its own. Nothing is
tuned by measuring time.
"""

import importlib.util
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.errors import NotSupported, is_out_of_memory
from longtake.settings import Settings

log = logging.getLogger(__name__)

OLDEST_CAPABILITY = (8, 0)
"""The least compute capability of a CUDA GPU whose code is compiled if the setting `compile` is `auto`."""

MOST_VARIANTS = 256
"""The largest number of times that a block is compiled, each time for other kinds of inputs. LTX-2 needs about twenty
for all combinations of guidance, and as many for each further device."""

FOLDER_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""The environment variable in which torch finds the folder of compiled code. Torch sets it, too, if it is not set."""

OPERATORS_FOLDER = os.environ.get(FOLDER_VARIABLE)
"""The value of TORCHINDUCTOR_CACHE_DIR, torch's folder of compiled code, when the process started; None if it was not
set."""


@dataclass(frozen=True)
class Decision:
    """The decision whether the transformer's blocks are compiled.

    is_on: True if they are.
    reason: why, as a part of a sentence.
    """

    is_on: bool
    reason: str


def decide(settings: Settings, device: torch.device) -> Decision:
    """Returns whether the blocks of a transformer on `device` are compiled. How much memory is free does not matter.

    Raises `NotSupported` if the setting `compile` is `on` but nothing can be compiled here.
    """
    if settings.compile == "off":
        return Decision(False, "LONGTAKE_COMPILE=off")
    lacking = obstacle(device)
    if settings.compile == "on":
        if lacking is not None:
            raise NotSupported(f"LONGTAKE_COMPILE=on cannot be done here: {lacking}. Use auto or off.")
        return Decision(True, "LONGTAKE_COMPILE=on")
    if device.type != "cuda":
        return Decision(False, f"on {device.type} only with LONGTAKE_COMPILE=on")
    return Decision(lacking is None, lacking or "the GPU and a compiler are suitable")


def obstacle(device: torch.device) -> str | None:
    """Returns why nothing can be compiled for a device, as a part of a sentence; None if it can."""
    if device.type == "cpu":
        compiler = os.environ.get("CXX", "g++")
        return None if shutil.which(compiler) else f"there is no C++ compiler ({compiler})"
    if device.type != "cuda":
        return f"torch compiles nothing for {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        needed, found = (".".join(map(str, pair)) for pair in (OLDEST_CAPABILITY, capability))
        return f"the GPU has compute capability {found}, and {needed} is needed"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    compilers = [os.environ["CC"]] if "CC" in os.environ else ["gcc", "clang"]
    return None if any(map(shutil.which, compilers)) else f"there is no C compiler ({' or '.join(compilers)})"


@dataclass(frozen=True)
class BlockForward:
    """How the blocks of a family's transformers compute.

    run: called as run(block, *inputs), it returns the block's output.
    varying: called as varying(vary, *inputs), also with named inputs, it returns the inputs of `run` in their order.
        For each tensor axis whose size differs between requests, it calls vary(tensor, number of the axis), which tells
        torch not to compile a variant for each size.
    """

    run: Callable[..., Any]
    varying: Callable[..., tuple[Any, ...]]


class CompiledBlocks:
    """The compiled forward pass of all blocks of a transformer. It is compiled when it is called for the first time.

    forward: its function `run` computes a block's output, in place of the block's own forward pass.
    is_on: if False, the blocks compute without compiled code.
    """

    def __init__(self, forward: BlockForward) -> None:
        self.is_on = True
        self._lock = threading.Lock()
        self._forward = forward
        # Torch before 2.10 has no such option. It then tunes by measuring, and keeps what it chose in its folder.
        has_option = hasattr(torch._inductor.config, "deterministic")
        options: dict[str, Any] = {"deterministic": True} if has_option else {}
        self._compiled = torch.compile(forward.run, fullgraph=True, dynamic=False, options=options)

    def attach(self, transformer: Any) -> None:
        """Makes the blocks of a transformer compute as compiled blocks. Hooks that move weights must be added later."""
        for block in transformer.transformer_blocks:
            block.forward = partial(self, block)

    def __call__(self, block: Any, *inputs: Any, **named: Any) -> Any:
        varying = self._forward.varying(_vary, *inputs, **named)
        if not self.is_on:
            return self._forward.run(block, *varying)
        # Torch's compiler has flags of the whole process, so no thread may call compiled code while another one
        # compiles. On a GPU the threads of several devices lose little by taking turns: a call only gives it its work.
        with self._lock:
            _allow_variants()
            return self._compiled(block, *varying)


def _allow_variants() -> None:
    """Lets torch compile as many variants as requests need. Since torch 2.13 the limit is one of the calling thread."""
    config = torch._dynamo.config
    if config.recompile_limit < MOST_VARIANTS:
        config.recompile_limit = MOST_VARIANTS


def _vary(tensor: Tensor, axis: int) -> None:
    """Tells the compiler that the size of an axis differs between calls. A size of 1 gets compiled code of its own."""
    if tensor.shape[axis] > 1:
        torch._dynamo.mark_dynamic(tensor, axis)


def warm_up(blocks: CompiledBlocks, settings: Settings, evaluate: Callable[[], None]) -> None:
    """Compiles the blocks by an evaluation, so that the first request need not wait for it, and logs how long it took.

    If it fails, the blocks compute without compiled code from then on, and the log says why.

    evaluate: evaluates the transformer on a few small frames, in the variants that usual requests need.
    Raises `NotSupported` if it fails and the settings demand compiled blocks.
    """
    started = time.perf_counter()
    _use_folder(settings.compiled_dir)
    try:
        with torch.inference_mode():
            evaluate()
    except Exception as error:  # compilers raise many errors
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {str(error).strip()[:300]}"
        if settings.compile == "on":
            raise NotSupported(f"LONGTAKE_COMPILE=on cannot be done here: compiling failed. {reason}") from error
        blocks.is_on = False
        log.warning(
            "The transformer's blocks are not compiled, so each step takes longer: compiling failed. %s", reason
        )
    else:
        log.info("The transformer's blocks were compiled in %.1f s.", time.perf_counter() - started)


def _use_folder(folder: Path) -> None:
    """Makes torch keep compiled code in a folder, so that later processes need not compile again.

    If nothing can be written there, torch uses a temporary folder. If the environment variable TORCHINDUCTOR_CACHE_DIR
    was set when the process started, torch keeps using the folder that it names.
    """
    if OPERATORS_FOLDER is not None:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        log.info("Compiled code is not kept: %s cannot be written (%s).", folder, error.strerror)
        return
    os.environ[FOLDER_VARIABLE] = str(folder)
