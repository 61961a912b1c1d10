"""The table of output formats: complete, ordered, and free of heavy imports."""

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
def test_every_cell_of_the_table_differs(type_: OutputType) -> None:
    cells: dict[str, OutputFormat] = {f"{q} {m}": output_format(type_, q, m) for q in QUALITIES for m in MODES}
    # ProRes has no slower search.
    same = {"PRORES4444 (.mov)": {("balanced", "fast")}}.get(type_, set())
    for first, one in cells.items():
        for second, other in cells.items():
            (q1, m1), (q2, m2) = first.split(), second.split()
            if first < second and not (q1 == q2 and tuple(sorted((m1, m2))) in same):
                assert one != other, f"{first} and {second} would make the same file"


@pytest.mark.parametrize("type_", TYPES)
def test_the_suffix_is_that_of_the_type_name(type_: OutputType) -> None:
    chosen = output_format(type_, "high", "balanced")
    assert f"({chosen.suffix})" in type_
    assert chosen.container in {"mp4", "webm", "mov", "gif"}


def numbers(type_: OutputType, option: str, mode: WriteMode = "balanced") -> list[int]:
    return [int(output_format(type_, quality, mode).options[option]) for quality in QUALITIES]


@pytest.mark.parametrize(
    ("type_", "option"), [("X264 (.mp4)", "crf"), ("VP9 (.webm)", "crf"), ("PRORES4444 (.mov)", "global_quality")]
)
def test_better_quality_is_a_finer_quantiser(type_: OutputType, option: str) -> None:
    steps = numbers(type_, option)
    assert steps == sorted(set(steps), reverse=True)


def test_small_prores_has_a_coarser_quantiser() -> None:
    balanced, small = (numbers("PRORES4444 (.mov)", "global_quality", mode) for mode in MODES[1:])
    assert all(coarse > fine for coarse, fine in zip(small, balanced, strict=True))


def test_only_gif_has_no_sound_and_a_maximum_rate() -> None:
    for type_ in TYPES:
        for quality in QUALITIES:
            chosen = output_format(type_, quality, "balanced")
            is_gif = type_ == "GIF (.gif)"
            assert (chosen.sound is None) == is_gif
            assert (chosen.palette is not None) == is_gif
            assert (chosen.max_rate is not None) == is_gif
    assert output_format("GIF (.gif)", "low", "fast").max_rate == Fraction(25, 2)
    assert output_format("GIF (.gif)", "maximum", "fast").max_width is None


def test_only_subsampled_colour_needs_even_sizes() -> None:
    assert [output_format(type_, "high", "fast").needs_even_size for type_ in TYPES] == [True, True, False, False]


def test_formats_import_no_codec() -> None:
    check = "import sys, longtake.media.formats; assert not {'av', 'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)
