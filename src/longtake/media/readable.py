"""Decodes the end of a video to find out how many frames of a damaged or cut file can be read, and whether it is
interlaced or transparent."""

from bisect import bisect_left
from contextlib import closing
from dataclasses import replace

from longtake.media.frame_reader import FrameFile
from longtake.media.picture import TRANSPARENT_NOTE, is_transparent
from longtake.media.probe import ProbedVideo

_MOST_CHECKED_PIXELS = 1 << 29
"""Largest number of pixels that are decoded to check the end of a video: about 260 frames of 1920x1080."""


def readable_part(video: ProbedVideo) -> ProbedVideo:
    """Returns the video without the frames at its end that are missing or cannot be decoded.

    If the file is damaged or cut off, `facts.notes` of the result has a sentence about that. If a frame near the end is
    interlaced, `picture.interlaced` of the result is True. If the last frame is transparent in parts, `facts.notes` of
    the result says so.
    """
    count, interlaced, transparent = _end(video)
    if interlaced:
        video = replace(video, picture=replace(video.picture, interlaced=True))
    if transparent and TRANSPARENT_NOTE not in video.facts.notes:
        video = replace(video, facts=replace(video.facts, notes=(*video.facts.notes, TRANSPARENT_NOTE)))
    if count == len(video.timeline.pts) and video.stated_s is None:
        return video
    line = video.timeline.beginning(count)
    whole_s = max(video.timeline.duration_s, video.stated_s or 0)
    of_whole = f" of {float(whole_s):.2f} s" if whole_s > line.duration_s else ""
    note = (
        f"The source is damaged or cut off after {float(line.duration_s):.2f} s{of_whole}. "
        "The part before that is used."
    )
    delays_s = None if video.facts.delays_s is None else line.duration_s
    facts = replace(
        video.facts,
        num_frames=line.num_frames,
        delays_s=delays_s,
        notes=(*video.facts.notes, note),
        stored_frames=len(line.pts) if line.variable else None,
    )
    return replace(video, timeline=line, facts=facts)


def _end(video: ProbedVideo) -> tuple[int, bool, bool]:
    """Decodes the end of a video and returns (count, has_interlaced, has_transparent).

    count: number of stored frames before the first one near the end that cannot be decoded; the number of all stored
        frames if there is none.
    has_interlaced: True if one of the frames decoded here is interlaced.
    has_transparent: True if the last of the frames decoded here is transparent in parts.

    If no keyframe near the end can be decoded, the result is (number of all stored frames, False, False).
    """
    pts = video.timeline.pts
    most = _MOST_CHECKED_PIXELS // (video.facts.width * video.facts.height)
    keys = list(video.keyframe_times)
    starts = {bisect_left(pts, key) for key in keys}
    # Decoding starts at the last keyframe. If that cannot be decoded, decoding starts again 1, 3, 7, ... keyframes
    # earlier. It is given up if there is no such keyframe, or if too many frames would have to be decoded.
    step = 1
    with FrameFile(video) as file:
        while keys:
            if len(pts) - bisect_left(pts, keys[-1]) > most:
                break
            found: dict[int, bool] = {}
            last = None
            with closing(file.decoded_from(keys[-1])) as frames:
                for number, frame in frames:
                    if not frame.is_corrupt:
                        found[number], last = frame.interlaced_frame, frame
            # In a transport stream the first decoded frame may be a later keyframe.
            if found and min(found) in starts:
                count = next((number for number in range(min(found), len(pts)) if number not in found), len(pts))
                return count, any(found.values()), is_transparent(last)
            del keys[-step:]
            step *= 2
    return len(pts), False, False
