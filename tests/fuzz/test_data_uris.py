"""Random data URIs give their data, or are refused in a short sentence."""

import base64
import random
import re
from urllib.parse import quote_from_bytes

import pytest

from longtake.errors import FileTooLarge
from longtake.media.data_uri import decode
from tests.fuzz.mutants import mutated, refusal, seeded

TYPES = (
    "",
    "video/mp4",
    "video/webm;codecs=vp8,opus",
    'video/mp4;codecs="avc1.42E01E, mp4a.40.2"',
    "text/plain;charset=x",
)
MAX_BYTES = 400


def sound_uri(draw: random.Random, data: bytes) -> str:
    """Returns a data URI of `data` in one of the forms that browsers make."""
    kind = draw.choice(TYPES)
    if draw.random() < 0.3:
        return f"data:{kind if ',' not in kind else 'x/y'},{quote_from_bytes(data)}"
    text = base64.b64encode(data).decode()
    match draw.randrange(5):
        case 0:
            text = text.rstrip("=")
        case 1:
            text = text.replace("+", "-").replace("/", "_")
        case 2:
            text = re.sub("(.{76})", r"\1\r\n", text)
        case 3:
            text = text.replace("+", "%2B").replace("=", "%3D")
    return f"data:{kind}{draw.choice((';base64,', ';BASE64,', '; base64,'))}{text}"


def check(draw: random.Random) -> None:
    data = draw.randbytes(draw.choice((0, 1, 2, 3, 57, 300, MAX_BYTES, MAX_BYTES + 1)))
    uri = sound_uri(draw, data)
    if len(data) > MAX_BYTES:
        with pytest.raises(FileTooLarge):
            decode(uri, MAX_BYTES)
    else:
        assert decode(uri, MAX_BYTES) == data
    other = mutated(draw, uri.encode()).decode("utf-8", draw.choice(("replace", "surrogateescape")))
    sizes: list[int] = []
    refusal(lambda: sizes.append(len(decode(f"data:{other}", MAX_BYTES))))
    assert all(size <= MAX_BYTES for size in sizes)


@pytest.mark.parametrize(
    "seeds", [range(300), pytest.param(range(300, 200_000), marks=pytest.mark.soak)], ids=["short", "long"]
)
def test_random_data_uris(seeds: range) -> None:
    for seed in seeds:
        with seeded(seed) as draw:
            check(draw)
