"""All cases of the oracle that depend on the device, with the functions that compute them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor

from bench.oracle import ltx2, ltxv, parts
from bench.oracle.case import Case
from bench.oracle.ways import Way

MOST = 1.1
"""The largest error in bfloat16 as a multiple of that of diffusers' own classes."""


@dataclass(frozen=True)
class Check:
    """A computation that is checked against a case of the oracle.

    name: the name in the table.
    compute: the function that computes the case.
    way: how this package's models compute.
    has_diffusers: True if diffusers' own classes can compute the case in bfloat16, for comparison.
    in_bfloat16: False if the package computes the case in float32, whatever the models' dtype is.
    case: the case's name; empty if it is `name`.
    """

    name: str
    compute: Callable[[Case], Iterator[tuple[str, Tensor]]]
    way: Way = "package"
    has_diffusers: bool = True
    in_bfloat16: bool = True
    case: str = ""

    @property
    def folder(self) -> str:
        """The name of the case, which is also that of its folder."""
        return self.case or self.name


LTX2_EXTENSIONS = tuple(
    f"ltx2_extend_{name}"
    for name in (
        *("forward_s1", "forward_s07", "forward_ge", "forward_ancestral", "forward_noaudio"),
        *("backward_s1", "backward_s08"),
    )
)
"""The extensions with LTX-2 in one pass."""

LTXV_EXTENSIONS = tuple(f"ltxv_extend_single_{name}" for name in ("s1", "s06", "keyframe", "suffix"))
"""The extensions with LTX-Video in one pass."""

CHECKS = (
    Check("ltxv_transformer", ltxv.forward),
    *(Check(name, ltxv.one_scale) for name in LTXV_EXTENSIONS),
    Check("ltxv_extend_two_scale", ltxv.two_scales),
    Check("ltxv_extend_two_scale_dev", ltxv.two_scales),
    Check("ltxv_long", ltxv.long_video),
    Check("ltxv_long_chunks", ltxv.fusing, has_diffusers=False, in_bfloat16=False),
    Check("ltxv_upsampler_adain", ltxv.upsampler),
    Check("ltxv_vae", ltxv.vae),
    Check("ltxv_vae, channels last", ltxv.vae, "channels last", case="ltxv_vae"),
    Check("lora_ltxv", ltxv.adapters),
    Check("single_file_ltxv", parts.single_file, has_diffusers=False),
    Check("ltx2_transformer_context", ltx2.forward),
    *(Check(name, ltx2.extension) for name in LTX2_EXTENSIONS),
    Check("ltx2_two_stage", ltx2.two_scales),
    Check("ltx2_two_stage_lora", ltx2.two_scales),
    Check("ltx2_guidance", ltx2.guidance, has_diffusers=False, in_bfloat16=False),
    Check("ltx2_upsampler", ltx2.upsampler),
    Check("ltx2_video_vae", parts.video_vae),
    Check("ltx2_video_vae, channels last", parts.video_vae, "channels last", case="ltx2_video_vae"),
    Check("ltx2_audio_vae", parts.audio_vae),
    Check("ltx2_vocoder", parts.vocoder),
    Check("ltx2_connectors", parts.connectors),
    Check("ltx2_mel", parts.mel, has_diffusers=False, in_bfloat16=False),
    Check("ltx2_mel, tokens", parts.sound, case="ltx2_mel"),
    Check("lora_ltx2", ltx2.adapters),
    Check("single_file_ltx2", parts.single_file, has_diffusers=False),
)
"""The checks in the order of the table. The cases `schedules` and `ltx2_rope_coords` are computed on the CPU always."""

COMPILED = (
    Check("ltxv_extend_single_s1, compiled", ltxv.one_scale, "compiled", case="ltxv_extend_single_s1"),
    Check("ltx2_extend_forward_s1, compiled", ltx2.extension, "compiled", case="ltx2_extend_forward_s1"),
)
"""Checks with compiled blocks, as requests on a GPU have them. They take longest, because they compile."""
