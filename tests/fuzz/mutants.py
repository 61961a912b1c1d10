"""Random changes of good inputs, each drawn from a number, so that a failure can be repeated."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from longtake.errors import LongtakeError

NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    2**62,
    2**63,
    2**64 - 1,
)
"""Numbers at which sizes, counts and offsets overflow."""

TEXTS = (
    *("", " ", "\0", "a\0b", "\x1b[31m", "\u202e", "\ufeff", "\U0001f600" * 9, "x" * 5000, "%", "%zz", "..", "/", "\\"),
    *("null", "NaN", "-1", "1e999", "data:", "data:,", "data:;base64,", "http://", "http://xn--/", "http://[::1]/"),
    *("http://[fe80::1%\u00e9]/", "https://a:99999/", "http://a:\u0663/", "file:///etc/passwd", ".fetched/hub", "a/b"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**31, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308, [], {}, [[]], [None], {"": {}}),
    *([0] * 300, {str(number): number for number in range(300)}, *TEXTS),
)
"""JSON values that a field seldom expects."""


@contextmanager
def seeded(seed: int) -> Iterator[random.Random]:
    """Context manager that gives the random numbers of a seed. An error of its block names the seed."""
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"The seed is {seed}.")
        raise


def refusal(do: Callable[[], object], longest: int = 500) -> str | None:
    """Calls `do` and returns the message of the `LongtakeError` that it raises, or None if it raises none.

    Fails if the message cannot be shown to a user: it has more than `longest` characters or unprintable ones.
    """
    try:
        do()
    except LongtakeError as error:
        message = error.message
    else:
        return None
    assert 0 < len(message) <= longest, message
    assert message.isprintable(), ascii(message)
    return message


def mutated(draw: random.Random, data: bytes) -> bytes:
    """Returns `data` after one to four changes: other bits, other numbers, pieces cut out, repeated or moved."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(changed) + 1)
        end = min(len(changed), place + draw.choice((1, 2, 4, 8, 16, 64, 300)))
        match draw.randrange(6):
            case 0 if place < len(changed):
                changed[place] ^= 1 << draw.randrange(8)
            case 1:
                number = draw.choice(NUMBERS) & (2 ** (8 * (width := draw.choice((1, 2, 4, 8)))) - 1)
                changed[place : place + width] = number.to_bytes(width, draw.choice(("big", "little")))
            case 2:
                del changed[place:end]
            case 3:
                changed[place:place] = changed[place:end] * draw.choice((1, 2, 50))
            case 4:
                to = draw.randrange(len(changed) + 1)
                changed[to:to] = changed[place:end]
            case _:
                changed[place:end] = draw.randbytes(end - place)
    return bytes(changed) if draw.random() < 0.8 else bytes(changed[: draw.randrange(len(changed) + 1)])


def with_other_value(draw: random.Random, document: Any) -> Any:
    """Returns a JSON document in which one value, or the document itself, is another one."""
    if not document or draw.random() < 0.1:
        return draw.choice(VALUES)
    match document:
        case dict():
            name = draw.choice(list(document))
            return document | {name: with_other_value(draw, document[name])}
        case list():
            place = draw.randrange(len(document))
            return [*document[:place], with_other_value(draw, document[place]), *document[place + 1 :]]
    return draw.choice(VALUES)
