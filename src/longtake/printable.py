"""Makes text from elsewhere, such as a name in a request, safe for logs, messages and terminals."""

import re

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Control characters, line breaks, marks that change the direction of text, and halves of characters (surrogates)."""

_UNPRINTABLE_IN_LINES = re.compile(rf"(?![\t\n]){UNPRINTABLE.pattern}")


def printable(text: str) -> str:
    r"""Returns a text in which each character of UNPRINTABLE is an escape, such as `\x1b` or `\u202e`."""
    return UNPRINTABLE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Returns a text in which each unprintable character except line feeds and tabs is an escape (see `printable`)."""
    return _UNPRINTABLE_IN_LINES.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
