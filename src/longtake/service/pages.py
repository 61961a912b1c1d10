"""The server's web pages: the gallery at `/`, and a playground for each endpoint at `/models/<endpoint id>`.

The HTML contains no requests and no secrets. Its scripts load everything as JSON, which needs a key if the server has
keys. All addresses in a page are relative, so that the pages also work behind a proxy that adds a path prefix.
"""

from html import escape
from pathlib import Path
from string import Template

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from longtake.endpoints import ENDPOINTS
from longtake.service.llms import description
from longtake.service.state import ServerState
from longtake.version import __version__

FOLDER = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""File name suffix -> MIME type of the static files."""
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
"""Headers of the pages and their files. With them the browser loads and runs nothing that comes from another server."""


def routes(_: ServerState) -> list[BaseRoute]:
    """Returns the routes of the pages and their static files."""
    files = {path.name: path.read_bytes() for path in (FOLDER / "static").iterdir() if path.suffix in TYPES}

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return Response(status_code=404)
        return Response(files[name], headers=SECURITY_HEADERS, media_type=TYPES[Path(name).suffix])

    return [
        _page("/", "gallery", "longtake"),
        *(_page(f"/models/{id}", "playground", f"{id} | longtake", endpoint=id) for id in ENDPOINTS),
        *(_page(f"/models/{id}/api", "reference", f"API of {id} | longtake", endpoint=id) for id in ENDPOINTS),
        *(_plain_text(id) for id in ENDPOINTS),
        _page("/history", "history", "History | longtake"),
        _page("/compare", "compare", "Compare | longtake"),
        _page("/server", "server", "Server | longtake"),
        _page("/shared/{key}", "shared", "Shared result | longtake"),
        Route("/static/{name}", static),
    ]


def _plain_text(endpoint: str) -> Route:
    """Returns the route of an endpoint's description for language models."""

    async def plain_text(request: Request) -> Response:
        server = request.scope["longtake.base_url"].removesuffix("/queue")
        text = description(endpoint).replace("{server}", server)
        return Response(text, headers=SECURITY_HEADERS, media_type="text/plain")

    return Route(f"/models/{endpoint}/llms.txt", plain_text)


def _page(path: str, name: str, title: str, endpoint: str = "") -> Route:
    """Returns the route of one page. Its HTML is made once.

    path: the page's path, without a slash at its end.
    name: the name of its template in `templates/`, and of its script and style sheet in `static/`.
    title: the text in the browser's tab.
    endpoint: the id of the endpoint that the page is about; empty if it is about none.
    """
    body = Template((FOLDER / "templates" / f"{name}.html").read_text("utf-8"))
    layout = Template((FOLDER / "templates" / "layout.html").read_text("utf-8"))
    root = "../" * (path.count("/") - 1)
    html = layout.substitute(
        root=root,
        title=escape(title),
        page=name,
        version=__version__,
        body=body.substitute(root=root, endpoint=endpoint),
    )

    async def page(_: Request) -> Response:
        return Response(html, headers=SECURITY_HEADERS, media_type="text/html")

    return Route(path, page)
