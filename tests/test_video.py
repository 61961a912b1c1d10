"""Ranges of frames, and facts about a video."""

from fractions import Fraction

from longtake.video import Span, VideoInfo

RATE = Fraction(24)


def test_the_tail_of_a_range_is_its_last_frames() -> None:
    assert len(Span(10, 30, RATE)) == 20
    assert Span(10, 30, RATE).tail(5) == Span(25, 30, RATE)
    assert Span(10, 30, RATE, shift=Fraction(1, 7)).tail(5) == Span(25, 30, RATE, shift=Fraction(1, 7))


def test_the_tail_of_a_reversed_range_is_its_first_frames() -> None:
    assert Span(10, 30, RATE, reverse=True).tail(5) == Span(10, 15, RATE, reverse=True)


def test_the_duration_follows_from_frames_and_rate() -> None:
    assert VideoInfo("mp4", "h264", 64, 64, Fraction(30000, 1001), 300).duration_s == 10.01
