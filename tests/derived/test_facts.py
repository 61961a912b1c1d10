"""The facts about videos: whether a browser plays them, and the settings in their comments."""

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from longtake.derived.facts import file_facts, is_playable, settings_in
from longtake.media.source import open_source
from longtake.media.tags import FileTags
from longtake.video import VideoInfo
from tests.media.clips import Clip, Tone

SETTINGS = {"longtake": "1.0", "endpoint": "a/b", "input": {"prompt": "x"}}


def test_the_facts_of_a_file(tmp_path: Path) -> None:
    path = Clip("a.mov", frames=12, codec="prores_ks", pix_fmt="yuv422p10le", sound=Tone("pcm_s16le", 44_100)).write(
        tmp_path
    )
    with open_source(path) as source:
        assert file_facts(source) == {
            "container": "mov",
            "codec": "prores",
            "width": 128,
            "height": 96,
            "fps": 24,
            "num_frames": 12,
            "duration": 0.5,
            "has_audio": True,
            "sound": {"codec": "pcm_s16le", "rate": 44_100, "channels": 2},
            "playable": False,
            "settings": None,
            "notes": [],
        }


@pytest.mark.parametrize(
    ("container", "codec", "pixel_format", "sound_codec", "playable"),
    [
        ("mp4", "h264", "yuv420p", "aac", True),
        ("mp4", "h264", "yuv420p", "", True),
        ("webm", "vp9", "yuv420p", "opus", True),
        ("mp4", "h264", "yuv422p10le", "aac", False),
        ("mp4", "h264", "yuv420p", "ac3", False),
        ("mp4", "hevc", "yuv420p", "aac", False),
        ("mov", "prores", "yuv422p10le", "", False),
        ("avi", "h264", "yuv420p", "aac", False),
        ("gif", "gif", "bgra", "", False),
        ("webp", "webp", "", "", False),
        ("matroska", "h264", "yuv420p", "aac", False),
        ("mpegts", "h264", "yuv420p", "aac", False),
    ],
)
def test_what_browsers_play(container: str, codec: str, pixel_format: str, sound_codec: str, playable: bool) -> None:
    facts = VideoInfo(container, codec, 64, 64, Fraction(24), 24)
    assert is_playable(facts, FileTags(pixel_format, sound_codec, "")) == playable


@pytest.mark.parametrize(
    ("comment", "settings"),
    [
        (json.dumps(SETTINGS), SETTINGS),
        (json.dumps({**SETTINGS, "more": 1}), SETTINGS),
        ("", None),
        ("made by me", None),
        ("[" * 100_000, None),
        ("[]", None),
        (json.dumps({**SETTINGS, "input": []}), None),
        (json.dumps({**SETTINGS, "endpoint": None}), None),
        (json.dumps({"longtake": "1.0"}), None),
        *((json.dumps({**SETTINGS, "input": {"a": bad}}), None) for bad in (math.nan, math.inf, "\ud800")),
        (json.dumps({**SETTINGS, "input": {"a": 1.5}}).replace("1.5", "1e999"), None),
    ],
)
def test_the_settings_in_a_comment(comment: str, settings: dict[str, Any] | None) -> None:
    assert settings_in(comment) == settings
