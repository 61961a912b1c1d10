"""Reads a range of a video's sound as stereo. Time 0 is the time of the first frame, and gaps are silent."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np

from longtake.errors import UnsupportedVideo
from longtake.media.downmix import limited, mixed
from longtake.media.gaps import gap, is_gap
from longtake.media.packets import shown_packets
from longtake.media.probe import ProbedVideo, decoded, opened
from longtake.media.sound import Samples
from longtake.media.sound_timing import placed

_PRE_ROLL_S = Fraction(3, 10)
"""Decoding starts this many seconds before the range, and the samples before the range are dropped, because a decoder's
first samples are wrong: one packet of AAC, 80 ms of Opus, some frames of MP3."""

_MARGIN = 4096
"""Number of samples that are also read before the range, and after it. They make the limiter and the resampler give the
same result as for the whole sound."""

_CLIP_LEVEL = np.float32(4)
"""Level to which samples are clipped, as a multiple of full scale. Floating-point PCM can have any value; lossy codecs
stay below this level."""


def sound(video: ProbedVideo, first: int, stop: int, rate: int, block: int) -> Iterator[Samples]:
    """Yields the sound of a video as stereo, from sample `first` up to, but not including, sample `stop`.

    Sample 0 is at the time of the first frame. The video must have sound.

    rate: samples per second of the result, in which `first` and `stop` are counted, too.
    block: largest number n of samples in each of the yielded arrays [2, n].

    Raises UnsupportedVideo if the sample rate changes within the file.
    """
    assert video.facts.sound is not None
    own = video.facts.sound.rate
    ratio = Fraction(own, rate)
    # Every `numerator` stored samples a stored sample and a resampled one are at the same time. The range is read from
    # such a sample, so that the resampler has the same phase for every range.
    meeting = (int(first * ratio) - _MARGIN) // ratio.numerator
    begin, end = meeting * ratio.numerator, int(stop * ratio) + _MARGIN
    stream = _filled(_stereo_pieces(video, begin), begin, end)
    if video.facts.sound.channels > 2:
        stream = limited(stream, own)
    if own != rate:
        stream = _resampled(stream, own, rate)
        begin = meeting * ratio.denominator
    return _blocks(stream, first - begin, stop - first, block)


def _blocks(stream: Iterator[Samples], skip: int, count: int, block: int) -> Iterator[Samples]:
    """Skips `skip` samples of `stream` and yields the next `count` ones, in blocks [2, n] of at most `block` samples.

    Silence is appended if `stream` is too short.
    """
    waiting: list[Samples] = []
    have = 0
    for piece in stream:
        piece, skip = piece[:, skip:], max(0, skip - piece.shape[1])
        while piece.shape[1] and count:
            size = min(block, count)
            waiting.append(piece[:, : size - have])
            piece, have = piece[:, size - have :], have + waiting[-1].shape[1]
            if have == size:
                yield np.concatenate(waiting, axis=1)
                waiting, have, count = [], 0, count - size
        if not count:
            return
    rest = np.concatenate([*waiting, np.zeros((2, count - have), np.float32)], axis=1)
    for start in range(0, count, block):
        yield rest[:, start : min(start + block, count)]


def _filled(pieces: Iterator[tuple[int, Samples]], begin: int, end: int) -> Iterator[Samples]:
    """Yields the stored samples from `begin` up to, but not including, `end`, with silence in gaps.

    `pieces` yields (position of the first sample, samples [2, n]) in rising order. Positions are sample numbers, like
    `begin` and `end`.
    """
    reached = begin
    for position, samples in pieces:
        if position > reached:
            yield gap(min(position, end) - reached)
            reached = min(position, end)
        samples = samples[:, reached - position : end - position] if position < end else samples[:, :0]
        if samples.shape[1]:
            yield samples
            reached += samples.shape[1]
        if reached >= end:
            return
    yield gap(end - reached)


def _stereo_pieces(video: ProbedVideo, begin: int) -> Iterator[tuple[int, Samples]]:
    """Yields the stored sound in pieces, as (position of the first sample, samples [2, n]).

    The first piece begins at or before the position `begin`. Positions are sample numbers at the file's own sample
    rate; 0 is at the time of the first video frame.
    """
    assert video.facts.sound is not None
    rate = video.facts.sound.rate
    target_s = video.origin_s + Fraction(begin, rate) - _PRE_ROLL_S
    pieces = (
        (None if seconds is None else round((seconds - video.origin_s) * rate), samples)
        for seconds, samples in _stored(video, target_s)
    )
    return placed(pieces, rate)


def _stored(video: ProbedVideo, target_s: Fraction) -> Iterator[tuple[Fraction | None, Samples]]:
    """Yields the decoded blocks of the sound, as (timestamp in seconds, stereo samples), up to the end of the file.

    The first block begins at the time `target_s` or earlier. Timestamps are None if the file has none. The first block
    after a seek is left out, because lossy codecs decode it wrongly.
    """
    sound = video.facts.sound
    assert sound is not None
    with opened(video.file, video.container) as media:
        stream = media.streams.audio[sound.track - 1]
        tick_s = Fraction(stream.time_base)
        beginning_s = (stream.start_time or 0) * tick_s
        sought = target_s > beginning_s + _PRE_ROLL_S and _seek(media, stream, int(target_s / tick_s))
        decoder = stream.codec_context
        for number, frame in enumerate(decoded(shown_packets(media, stream), decoder)):
            seconds = None if frame.pts is None else frame.pts * Fraction(frame.time_base)
            if sought and number == 0 and (seconds is None or seconds > target_s + _PRE_ROLL_S):
                break
            if sought and number == 0 and seconds is not None and seconds > beginning_s:
                continue
            yield seconds, _stereo(video, frame)
        else:
            return
    # The seek led to a packet after the target or without a timestamp, so the sound is decoded from its beginning.
    yield from _stored(video, beginning_s)


def _seek(media: Any, stream: Any, ticks: int) -> bool:
    """Moves the reading position of `media` to a packet at or before the time `ticks`, in the stream's ticks.

    Returns True. If that is impossible, moves it to the beginning of the file and returns False.
    """
    try:
        media.seek(ticks, stream=stream, backward=True)
    except av.FFmpegError:
        media.seek(0)
        return False
    return True


def _stereo(video: ProbedVideo, frame: Any) -> Samples:
    """Returns the samples of a decoded sound frame as stereo [2, n]. Samples that are NaN become silent.

    Raises UnsupportedVideo if the frame's sample rate differs from the rate in `video.facts`.
    """
    assert video.facts.sound is not None
    if frame.sample_rate != video.facts.sound.rate:
        raise UnsupportedVideo(
            f"The sound changes its sample rate on the way: {video.facts.sound.rate} Hz, then {frame.sample_rate} Hz."
        )
    names = tuple(channel.name for channel in frame.layout.channels)
    # The samples are interleaved first, because PyAV reads past the last plane of 8 or more planar channels.
    (packed,) = av.AudioResampler(format="flt").resample(frame)
    planes: Samples = packed.to_ndarray().reshape(-1, len(names)).T
    if not np.abs(planes).max(initial=0) <= _CLIP_LEVEL:
        planes = np.nan_to_num(planes, nan=0.0).clip(-_CLIP_LEVEL, _CLIP_LEVEL)
    return mixed(planes, names)


def _resampled(stream: Iterator[Samples], own: int, rate: int) -> Iterator[Samples]:
    """Yields the sound of `stream`, which has `own` samples per second, resampled to `rate` samples per second.

    Long silence (see media.gaps) is not resampled, but yielded as silence of the new length.
    """
    resampler = av.AudioResampler(format="fltp", layout="stereo", rate=rate)
    ratio = Fraction(own, rate)
    for piece in stream:
        fed = piece
        skipped = 0
        if is_gap(piece, 2 * _MARGIN):
            # After this much silence the resampler holds nothing but silence. It has the same phase again after every
            # `numerator` stored samples, so any multiple of them can be left out.
            skipped = (piece.shape[1] - 2 * _MARGIN) // ratio.numerator
            fed = piece[:, skipped * ratio.numerator :]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(fed), format="fltp", layout="stereo")
        frame.sample_rate = own
        for out in resampler.resample(frame):
            yield out.to_ndarray()
        if skipped:
            yield gap(skipped * ratio.denominator)
