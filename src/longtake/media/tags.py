"""Facts that decide how players show a video file (pixel format, sound codec), and the comment in the file."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from longtake.media.messages import ArrayForm

MOST_COMMENT_BYTES = 60_000
"""The largest number of bytes of a comment that is written or read. A MOV file can hold 65,535."""

COMMENT_FORM = ArrayForm("uint8", ((0, MOST_COMMENT_BYTES),))
"""The dtype and the lengths of the array that holds a file's comment as UTF-8 bytes. The child process that reads the
file sends it."""


@dataclass(frozen=True)
class FileTags:
    """Facts about a video file that are not needed to decode it. They decide whether a browser can play it.

    pixel_format: FFmpeg's name of the format in which the pixels are stored, such as yuv420p; empty if it is unknown.
    sound_codec: FFmpeg's name of the codec of the sound track that players play; empty if there is no sound.
    comment: the text of the comment in the file; empty if there is none, or if it is longer than MOST_COMMENT_BYTES.
    """

    pixel_format: str
    sound_codec: str
    comment: str


def checked_tags(header: dict[str, Any], comment: NDArray[np.uint8] | None) -> FileTags:
    """Checks the tags of a file that a child process sent, and returns them.

    header: the JSON object that the child sent, with the fields `pixel_format` and `sound_codec`.
    comment: the bytes of the file's comment.

    Raises ValueError if a field is not a text or the comment is missing.
    """
    pixel_format, sound_codec = header.get("pixel_format"), header.get("sound_codec")
    if type(pixel_format) is not str or type(sound_codec) is not str or comment is None:
        raise ValueError("tags that are no texts")
    return FileTags(pixel_format[:50], sound_codec[:50], comment.tobytes().decode("utf-8", "replace"))
