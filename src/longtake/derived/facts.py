"""The facts about a video that the server's pages show, and whether a browser can play it as it is."""

import json
from typing import Any

from pydantic import TypeAdapter

from longtake.media.source import SourceReader
from longtake.media.tags import FileTags
from longtake.video import VideoInfo

_PLAYABLE = {
    "mp4": ({"h264", "av1", "libdav1d", "vp9"}, {"", "aac", "mp3", "opus", "flac"}),
    "webm": ({"vp8", "vp9", "av1", "libdav1d"}, {"", "opus", "vorbis"}),
}
"""Container -> (video codecs, sound codecs) that browsers play in it. "" stands for a file without sound."""

_PIXEL_FORMATS = {"yuv420p", "yuvj420p", "yuva420p"}
"""FFmpeg's names of the pixel formats that browsers play: 8 bits per channel and 4:2:0 chroma."""


def file_facts(source: SourceReader) -> dict[str, Any]:
    """Returns the facts about a video as a JSON object.

    container, codec, width, height, fps, num_frames, duration: as in `video.VideoInfo`; `duration` is in seconds.
    has_audio: True if the video has sound that can be decoded.
    sound: {codec, rate, channels} of the sound; None if it has none.
    playable: True if a browser can play the file as it is.
    settings: the version, endpoint and input that made the file, if longtake made it (see `settings_in`), otherwise
        None.
    notes: sentences for the user, for example that a part of the file or a sound track cannot be read.
    """
    facts, tags = source.facts, source.tags()
    sound = facts.sound
    return {
        "container": facts.container,
        "codec": facts.codec,
        "width": facts.width,
        "height": facts.height,
        "fps": float(facts.rate),
        "num_frames": facts.num_frames,
        "duration": facts.duration_s,
        "has_audio": sound is not None,
        "sound": sound and {"codec": tags.sound_codec, "rate": sound.rate, "channels": sound.channels},
        "playable": is_playable(facts, tags),
        "settings": settings_in(tags.comment),
        "notes": [*facts.notes, *facts.sound_notes],
    }


def source_facts(source: SourceReader) -> dict[str, Any]:
    """Returns all fields of the video's `VideoInfo` as a JSON object. Extensions of the video are planned from them."""
    facts: dict[str, Any] = TypeAdapter(VideoInfo).dump_python(source.facts, mode="json")
    return facts


def is_playable(facts: VideoInfo, tags: FileTags) -> bool:
    """Returns True if common browsers can play a file with these facts and tags as it is, and seek in it."""
    codecs, sound_codecs = _PLAYABLE.get(facts.container, (set(), set()))
    return facts.codec in codecs and tags.sound_codec in sound_codecs and tags.pixel_format in _PIXEL_FORMATS


def settings_in(comment: str) -> dict[str, Any] | None:
    """Reads the comment that longtake writes into its videos (see `endpoints.label`): {longtake, endpoint, input}.

    These are the version of longtake, the id of the endpoint and the input of the request. Returns None for any other
    comment, also for one with numbers or characters that JSON in UTF-8 does not have, such as `NaN`. Only the types
    (text, text, object) are checked: anybody can write such a comment with wrong values.
    """
    try:
        found = json.loads(comment)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # finds infinity, also as 1e999, and surrogates
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    version, endpoint, input = (found.get(name) for name in ("longtake", "endpoint", "input"))
    if not (isinstance(version, str) and isinstance(endpoint, str) and isinstance(input, dict)):
        return None
    return {"longtake": version, "endpoint": endpoint, "input": input}
