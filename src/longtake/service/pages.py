"""The server's web pages: the gallery at `/`, and a playground for each endpoint at `/models/<endpoint id>`.

The HTML contains no requests and no secrets. Its scripts load everything as JSON, which needs a key if the server has
keys. All addresses in a page are relative, so that the pages also work behind a proxy that adds a path prefix.
"""

import hashlib
import re
from functools import cache, lru_cache
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from longtake.database.connection import is_temporary
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.service.llms import description
from longtake.service.responses import accepts_gzip, compressed
from longtake.service.state import ServerState
from longtake.version import __version__

FOLDER = Path(__file__).parent
TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".mp4": "video/mp4",
}
"""File name suffix -> MIME type of the static files."""
_IMPORT = re.compile(r"""^(?:import|\} from)\b[^"]*"\./([\w.]+)";""", re.MULTILINE)
"""Matches a line of a script that imports another one. The group is the other one's name."""
_SHEET = re.compile(r"""^@import "([\w.]+)";$""", re.MULTILINE)
"""Matches a line of a style sheet that imports another one. The group is the other one's name."""
_LATER = re.compile(r'\bimport\("\./([\w.]+)"\)')
"""Matches a dynamic import, `import("./<name>")`: it loads a script only when the page needs it. The group is the
script's name."""
PACKED = ("image/jpeg", "video/mp4")
"""MIME types of files that are compressed already. All others are compressed with gzip for clients that accept it."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Headers of the pages and their files. With them the browser loads and runs nothing that comes from another server."""


def routes(state: ServerState) -> list[BaseRoute]:
    """Returns the routes of the pages and their static files."""
    files = {path.name: _content(path) for path in (FOLDER / "static").iterdir() if path.suffix in TYPES}

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return Response(status_code=404)
        return _answer(request, files[name], TYPES[Path(name).suffix])

    return [
        _page(state, "/", "gallery", "Models"),
        *(_page(state, f"/models/{id}", "playground", one.display_name, endpoint=one) for id, one in ENDPOINTS.items()),
        *(
            _page(state, f"/models/{id}/api", "reference", f"API of {one.display_name}", endpoint=one)
            for id, one in ENDPOINTS.items()
        ),
        *(_plain_text(id) for id in ENDPOINTS),
        _page(state, "/history", "history", "History"),
        _page(state, "/compare", "compare", "Compare"),
        _page(state, "/server", "server", "Server"),
        _page(state, "/shared/{key}", "shared", "Shared result"),
        Route("/static/{name}", static),
    ]


def _content(path: Path) -> bytes:
    """Returns what is sent of the static file at `path`. The other style sheets that a style sheet imports are put into
    it, so that the browser need not wait for the network twice."""
    if path.suffix != ".css":
        return path.read_bytes()
    return _SHEET.sub(lambda line: _content(path.with_name(line[1])).decode(), path.read_text("utf-8")).encode()


def _plain_text(endpoint: str) -> Route:
    """Returns the route of an endpoint's description for language models."""

    async def plain_text(request: Request) -> Response:
        server = request.scope["longtake.base_url"].removesuffix("/queue")
        text = description(endpoint).replace("{server}", server)
        return _answer(request, text.encode(), "text/plain")

    return Route(f"/models/{endpoint}/llms.txt", plain_text)


def _page(state: ServerState, path: str, name: str, title: str, endpoint: Endpoint[Any, Any] | None = None) -> Route:
    """Returns the route of one page. Its HTML is made once in two variants. That for a server without keys lets the
    browser load the endpoint's data before any script has run. With keys, only a script can send the key.

    path: the page's path, without a slash at its end.
    name: the name of its template in `templates/`, and of its script and style sheet in `static/`.
    title: what the page is about, for the browser's tab.
    endpoint: the endpoint that the page is about; None if it is about none.
    """
    body = Template((FOLDER / "templates" / f"{name}.html").read_text("utf-8"))
    layout = Template((FOLDER / "templates" / "layout.html").read_text("utf-8"))
    root = "../" * (path.count("/") - 1)
    with_keys, without_keys = (
        layout.substitute(
            root=root,
            title=escape(f"{title} | longtake"),
            page=name,
            preloads=data + _preloads(name, root),
            version=__version__,
            body=body.substitute(root=root, models=_cards(root), **_about(endpoint)),
        ).encode()
        for data in ("", _data_preloads(endpoint, root))
    )

    async def page(request: Request) -> Response:
        if request.scope["longtake.end_slashes"]:
            # The page's own addresses are relative to its path without them.
            return RedirectResponse(_address_without_end_slashes(request), headers=SECURITY_HEADERS)
        may_preload = endpoint is not None and await _is_without_keys(state)
        return _answer(request, without_keys if may_preload else with_keys, "text/html")

    return Route(path, page)


async def _is_without_keys(state: ServerState) -> bool:
    """Returns True if the server has no keys. Returns False while the database does not answer, so that pages are shown
    then, too."""
    try:
        return not await state.call(state.keys.any_exist)
    except Exception as error:
        if is_temporary(error):
            return False
        raise


def _about(endpoint: Endpoint[Any, Any] | None) -> dict[str, str]:
    """Returns what a page's HTML says about its endpoint, so that it is shown before any script has run."""
    if endpoint is None:
        return {}
    return {"endpoint": endpoint.id, "heading": escape(endpoint.display_name), "description": escape(endpoint.title)}


def _cards(root: str) -> str:
    """Returns the list items of all endpoints, with links to their playgrounds. The gallery's script replaces them.

    root: the relative URL of the server's root, such as `../`.
    """
    card = Template('<li class="card"><h2><a href="${root}models/$id">$name</a></h2><p>$title</p></li>')
    return "".join(
        card.substitute(root=root, id=id, name=escape(one.display_name), title=escape(one.title))
        for id, one in ENDPOINTS.items()
    )


def _preloads(page: str, root: str) -> str:
    """Returns the HTML that lets the browser load all scripts of a page at once.

    Otherwise it would learn of each only from the file that imports it, and wait for the network again and again. The
    scripts that the page needs first come first, and those that it imports dynamically have a low priority.

    page: the page's name.
    root: the relative URL of the server's root, such as `../`.
    """
    scripts = _imported(f"{page}.js", [])
    later = [name for name in _imported(f"{page}.js", [], later=True) if name not in scripts]
    return "".join(
        (
            *(f'<link rel="modulepreload" href="{root}static/{name}">' for name in scripts[1:]),
            *(f'<link rel="modulepreload" fetchpriority="low" href="{root}static/{name}">' for name in later),
        )
    )


def _data_preloads(endpoint: Endpoint[Any, Any] | None, root: str) -> str:
    """Returns the HTML that lets the browser load what the API says of an endpoint while it loads the page's scripts,
    which ask for exactly these addresses (see `static/schema.js`). Returns an empty text for None.

    root: the relative URL of the server's root.
    """
    if endpoint is None:
        return ""
    query = f"endpoint_id={quote(endpoint.id, safe='')}"
    addresses = (f"v1/models?{query}&amp;expand=openapi-3.0", f"v1/models/pricing?{query}")
    return "".join(f'<link rel="preload" as="fetch" crossorigin href="{root}{one}">' for one in addresses)


def _imported(name: str, known: list[str], *, later: bool = False) -> list[str]:
    """Adds the name of a script, and those of all scripts that it imports, directly or not, to the list `known`, in
    their order. Returns this list.

    known: the names of the scripts that were found already. Their imports are not followed again.
    later: True to include dynamic imports, `import("./<name>")`, which load a script only when the page needs it.
    """
    if name not in known:
        known.append(name)
        for other in _imports(name, later):
            _imported(other, known, later=later)
    return known


@cache
def _imports(name: str, later: bool) -> tuple[str, ...]:
    """Returns the names of the scripts that the script `name` imports itself.

    later: True to include dynamic imports, `import("./<name>")`, which load a script only when the page needs it.
    """
    text = (FOLDER / "static" / name).read_text("utf-8")
    return (*_IMPORT.findall(text), *(_LATER.findall(text) if later else ()))


def _address_without_end_slashes(request: Request) -> str:
    """Returns the address of the requested page without the unneeded slashes at the end of its path.

    The address is relative to the requested path, such as "../history".
    """
    name, query = request.url.path.rpartition("/")[2], request.url.query
    up = "../" * int(request.scope["longtake.end_slashes"])
    return f"{up}{name}?{query}" if query else f"{up}{name}"


_compressed = lru_cache(maxsize=256)(compressed)


@lru_cache(maxsize=256)
def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _answer(request: Request, content: bytes, media_type: str) -> Response:
    """Returns the answer with a page or a file. It has no content if the client has the same content already."""
    headers = dict(SECURITY_HEADERS)
    if media_type not in PACKED:
        headers["Vary"] = "Accept-Encoding"
        if accepts_gzip(request):
            content, headers["Content-Encoding"] = _compressed(content), "gzip"
    tag = headers["ETag"] = _tag(content)
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in known or known == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)
