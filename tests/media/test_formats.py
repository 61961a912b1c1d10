"""The table of output recipes: complete, ordered, and free of heavy imports."""

import subprocess
import sys
from fractions import Fraction
from typing import get_args

import pytest

from longtake.media.formats import OutputFormat, OutputType, Quality, WriteMode, output_format

TYPES: tuple[OutputType, ...] = get_args(OutputType)
QUALITIES: tuple[Quality, ...] = get_args(Quality)
MODES: tuple[WriteMode, ...] = get_args(WriteMode)


@pytest.mark.parametrize("type_", TYPES)
def test_each_cell_of_the_table_is_its_own(type_: OutputType) -> None:
    cells: dict[str, OutputFormat] = {f"{q} {m}": output_format(type_, q, m) for q in QUALITIES for m in MODES}
    # ProRes has no slower search, and a GIF's fast mode is what low quality's dither is anyway.
    same = {"PRORES4444 (.mov)": {("balanced", "fast")}}.get(type_, set())
    for first, one in cells.items():
        for second, other in cells.items():
            (q1, m1), (q2, m2) = first.split(), second.split()
            if first < second and not (q1 == q2 and tuple(sorted((m1, m2))) in same):
                assert one != other, f"{first} and {second} would make the same file"


@pytest.mark.parametrize("type_", TYPES)
def test_suffix_is_the_one_in_the_type_name(type_: OutputType) -> None:
    made = output_format(type_, "high", "balanced")
    assert f"({made.suffix})" in type_
    assert made.container in {"mp4", "webm", "mov", "gif"}


def numbers(type_: OutputType, option: str, mode: WriteMode = "balanced") -> list[int]:
    return [int(output_format(type_, quality, mode).options[option]) for quality in QUALITIES]


def test_better_quality_is_a_finer_quantiser() -> None:
    assert numbers("X264 (.mp4)", "crf") == [28, 23, 18, 12]
    assert numbers("VP9 (.webm)", "crf") == [40, 31, 22, 15]
    assert numbers("PRORES4444 (.mov)", "global_quality") == [118 * q for q in (16, 9, 4, 2)]
    assert numbers("PRORES4444 (.mov)", "global_quality", "small") == [118 * q for q in (24, 13.5, 6, 3)]


def test_only_gif_is_silent_and_capped() -> None:
    for type_ in TYPES:
        for quality in QUALITIES:
            made = output_format(type_, quality, "balanced")
            is_gif = type_ == "GIF (.gif)"
            assert (made.sound is None) == is_gif
            assert (made.palette is not None) == is_gif
            assert (made.max_rate is not None) == is_gif
    assert output_format("GIF (.gif)", "low", "fast").max_rate == Fraction(25, 2)
    assert output_format("GIF (.gif)", "maximum", "fast").max_width is None


def test_only_halved_colour_needs_even_sizes() -> None:
    assert [output_format(type_, "high", "fast").even for type_ in TYPES] == [True, True, False, False]


def test_formats_import_no_codec() -> None:
    check = "import sys, longtake.media.formats; assert not {'av', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
