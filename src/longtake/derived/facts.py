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
"""Container -> the codecs of pictures, and those of sound, that browsers play in it. An empty text is no sound."""

_PIXEL_FORMATS = {"yuv420p", "yuvj420p", "yuva420p"}
"""The pixel formats that browsers play. H.264 with more bits or colours is not among them."""


def file_facts(source: SourceReader) -> dict[str, Any]:
    """Returns the facts about a video as a JSON object.

    container, codec, width, height, fps, num_frames, duration: as in `video.VideoInfo`; `duration` is in seconds.
    has_audio: True if it has sound that can be decoded.
    sound: {codec, rate, channels} of the sound; None if it has none.
    playable: True if a browser can play the file as it is.
    settings: what made the file, if the server or the command line made it (see `settings_in`), otherwise None.
    notes: sentences for people about what cannot be read.
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
    """Returns all facts about a video from which plans are made, as the JSON form of `video.VideoInfo`."""
    facts: dict[str, Any] = TypeAdapter(VideoInfo).dump_python(source.facts, mode="json")
    return facts


def is_playable(facts: VideoInfo, tags: FileTags) -> bool:
    """Returns True if common browsers play and seek in the file as it is."""
    codecs, sound_codecs = _PLAYABLE.get(facts.container, (set(), set()))
    return facts.codec in codecs and tags.sound_codec in sound_codecs and tags.pixel_format in _PIXEL_FORMATS


def settings_in(comment: str) -> dict[str, Any] | None:
    """Returns what made a video: {longtake, endpoint, input}, from the comment in its file (see `endpoints.label`).

    Returns None if the comment is another one. Anybody can write such a comment, so only its form is sure: a version,
    the id of an endpoint, and an object.
    """
    try:
        found = json.loads(comment)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    version, endpoint, input = (found.get(name) for name in ("longtake", "endpoint", "input"))
    if not (isinstance(version, str) and isinstance(endpoint, str) and isinstance(input, dict)):
        return None
    return {"longtake": version, "endpoint": endpoint, "input": input}
