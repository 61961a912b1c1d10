"""All known layouts: the ways in which single-file checkpoints name their weights and settings. Needs no torch."""

from collections.abc import Collection

from longtake.models.layout import Class, Layout, PublishedConfig
from longtake.models.layout_ltx2 import LTX2_LAYOUT, LTX2_UPSAMPLER_LAYOUT
from longtake.models.layout_ltxv import LTXV_LAYOUT, LTXV_UPSAMPLER_LAYOUT
from longtake.models.registry import PartName
from longtake.models.text_encoders import TEXT_ENCODERS

LAYOUTS: tuple[Layout, ...] = (LTX2_LAYOUT, LTX2_UPSAMPLER_LAYOUT, LTXV_LAYOUT, LTXV_UPSAMPLER_LAYOUT)
"""All layouts. The first one that recognises a file is used.

The layouts of LTX-2 come first, because the layouts of LTX-Video recognise files of LTX-2 too.
"""


def layout_of(names: Collection[str], published: PublishedConfig) -> Layout | None:
    """Returns the layout of a file (how it names its weights and settings), or None if no known layout fits.

    names: the names of the file's tensors.
    published: the `config` in the file's metadata.
    """
    return next((layout for layout in LAYOUTS if layout.recognises(names, published)), None)


def classes_of(part: PartName) -> tuple[Class, ...]:
    """Returns all classes with which a part can be loaded, each once."""
    if part == "text_encoder":
        return tuple(TEXT_ENCODERS)
    return tuple(dict.fromkeys(layout.classes[part] for layout in LAYOUTS if part in layout.classes))
