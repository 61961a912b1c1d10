"""Which pages of other origins may read the answers. Never with credentials: keys are in a header, not in cookies."""

from collections.abc import Mapping, Sequence

RawHeaders = list[tuple[bytes, bytes]]

METHODS = b"GET, POST, PUT, DELETE, OPTIONS"
EXPOSED = b", ".join(
    (
        b"x-fal-request-id",
        b"x-fal-request-timeout-type",
        b"x-fal-error-type",
        b"x-fal-needs-retry",
        b"x-fal-retryable",
        b"x-fal-billable-units",
        b"x-longtake-price-usd",
        b"etag",
        b"content-length",
        b"content-range",
        b"accept-ranges",
    )
)
"""What a page may read beside the body."""
USUAL = b"authorization, content-type, accept, x-fal-target-url"
REMEMBERED_S = b"7200"


class Cors:
    def __init__(self, origins: Sequence[str]) -> None:
        self._all = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes | None) -> RawHeaders:
        """What an answer to this origin carries."""
        if origin is None:
            return []
        if self._all:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED)]
        if origin not in self._origins:
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        ]

    def preflight(self, headers: Mapping[bytes, bytes]) -> RawHeaders:
        """What the answer to an OPTIONS request carries more: `x-fal-*` is said by naming what is asked for."""
        return [
            (b"access-control-allow-methods", METHODS),
            (b"access-control-allow-headers", headers.get(b"access-control-request-headers", USUAL)),
            (b"access-control-max-age", REMEMBERED_S),
        ]
