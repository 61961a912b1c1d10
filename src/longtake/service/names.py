"""Application ids in paths: owner, alias and the path below them, with fal's two namespaces."""

import re
from dataclasses import dataclass

NAMESPACES = ("workflows", "comfy")

ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What can be the id of a request."""

_REQUEST = re.compile(r"/(?P<name>.+?)/requests/(?P<id>[^/]+)(?P<rest>(?:/.*)?)", re.ASCII)


@dataclass(frozen=True)
class Name:
    """An application: `app` is what requests are found under, `full` what they are sent to."""

    app: str
    full: str


@dataclass(frozen=True)
class Address:
    """One request by its address: under which name it is asked for, and what of it (`""`, `/status`, ...)."""

    name: str
    request_id: str
    rest: str


def name(full: str) -> Name:
    """`owner/alias/sub/path` is asked for as `owner/alias`; a namespace before it stays."""
    parts = full.strip("/").split("/")
    kept = 3 if parts[0] in NAMESPACES else 2
    return Name("/".join(parts[:kept]), "/".join(parts))


def address(path: str) -> Address | None:
    """The request that a path names; None where it names none."""
    found = _REQUEST.fullmatch(path)
    return (
        None if found is None or not ID.fullmatch(found["id"]) else Address(found["name"], found["id"], found["rest"])
    )


def belongs(endpoint: str, asked: str) -> bool:
    """Whether a request of this endpoint may be asked for under this name: the short one, or the full one."""
    return asked == endpoint or asked == name(endpoint).app
