"""The joint of a finished file: found in both directions, measured, and drawn with its sound."""

from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from longtake.cli.inspection import InspectedJoint, inspect_joint
from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.plan import LTX2Plan
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.media.source import open_source
from longtake.video import Span
from tests.media.files_out import moving

pytestmark = pytest.mark.usefixtures("forked_decoders")

RATE = Fraction(24)
SHOWN, NEW = 36, 48
SECOND = 48_000
OFF = GuidanceScales(cfg=1, stg=0, modality=1, rescale=0)


def make_plan(direction: Literal["forward", "backward"], strength: float = 1.0) -> LTX2Plan:
    return LTX2Plan(
        endpoint="fal-ai/ltx-2.3-22b/extend-video",
        model="ltx2-tiny",
        prompt="a red disc",
        negative_prompt="",
        expand_prompt=False,
        check_safety=False,
        seed=1,
        width=160,
        height=96,
        rate=RATE,
        context=Span(0, SHOWN, RATE),
        shown_frames=SHOWN,
        context_frames=17,
        new_frames=NEW,
        billed_frames=17 + NEW,
        strength=strength,
        adapters=(),
        direction=direction,
        windows=(),
        canvases=(),
        scheduler="ltx2",
        steps=1,
        video=OFF,
        audio=OFF,
        stg_blocks=(),
        gamma=0,
        eta=0,
        acceleration="none",
        sound=True,
        audio_strength=1,
        output="PRORES4444 (.mov)",
        quality="low",
        write_mode="fast",
        sync_mode=False,
    )


def inspected(folder: Path, plan: LTX2Plan, *, sound: bool = True) -> tuple[InspectedJoint, Image.Image]:
    """Inspects a file whose picture jumps and whose 440 Hz tone falls by 6 dB and jumps by 90 degrees at the joint."""
    joint = NEW if plan.direction == "backward" else SHOWN
    frames = moving(plan.num_frames, 96, 160)
    frames[joint:] = 255 - frames[joint:]
    turns = 2 * np.pi * 440 * np.arange(plan.num_frames * 2000) / SECOND
    turns[joint * 2000 :] += np.pi / 2
    wave = 0.4 * np.sin(turns)
    wave[joint * 2000 :] /= 2
    path = folder / "a.mov"
    with Encoder(
        path, output_format("PRORES4444 (.mov)", "low", "fast"), 160, 96, RATE, sound_rate=SECOND if sound else None
    ) as file:
        if sound:
            file.write_sound(np.stack([wave, wave]).astype(np.float32))
        file.write(frames)
    sheet = folder / "sheet.png"
    with open_source(path) as source:
        found = inspect_joint(source, plan, sheet)
    assert found is not None
    with Image.open(sheet) as picture:
        return found, picture.convert("RGB")


@pytest.mark.parametrize(("direction", "frame"), [("forward", SHOWN), ("backward", NEW)])
def test_the_joint_is_found_and_measured(tmp_path: Path, direction: Literal["forward", "backward"], frame: int) -> None:
    found, _ = inspected(tmp_path, make_plan(direction))
    assert found.frame == frame
    assert found.figures.difference_ratio > 5
    assert found.figures.loudness_step_db == pytest.approx(-6.02, abs=0.2)
    assert found.tone.pitch_step_cents == pytest.approx(0, abs=3)
    assert found.tone.phase_jump_degrees == pytest.approx(90, abs=3)
    document = found.to_json()
    assert document["phase_jump_degrees"] == found.tone.phase_jump_degrees
    assert dict(found.rows())["pitch step"] == "+0 cents"
    assert dict(found.rows())["phase jump"] == "90 degrees"


def test_the_joint_of_the_sound_is_where_the_source_s_sound_ends(tmp_path: Path) -> None:
    found, _ = inspected(tmp_path, make_plan("forward", strength=0.5))
    assert found.frame == SHOWN - 17
    assert found.figures.loudness_step_db == pytest.approx(-6.02, abs=0.2)


def test_only_a_file_with_sound_gets_a_spectrogram(tmp_path: Path) -> None:
    found, silent = inspected(tmp_path, make_plan("forward"), sound=False)
    assert found.figures.loudness_step_db is None
    assert not {"loudness step", "pitch step"} & dict(found.rows()).keys()
    _, heard = inspected(tmp_path, make_plan("forward"))
    assert heard.width == silent.width
    assert heard.height > silent.height + 240
    np.testing.assert_array_equal(np.asarray(heard)[: silent.height], np.asarray(silent))
