"""Imports what an extension imports. See `tests.browser.pasted`."""

from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLLTXVideo,
    LTX2VideoTransformer3DModel,
    LTXVideoTransformer3DModel,
)
from transformers import AutoTokenizer

import longtake.cli
import longtake.library
import longtake.runner

__all__ = [
    "AutoTokenizer",
    "AutoencoderKLLTX2Audio",
    "AutoencoderKLLTX2Video",
    "AutoencoderKLLTXVideo",
    "LTX2VideoTransformer3DModel",
    "LTXVideoTransformer3DModel",
    "longtake",
]
