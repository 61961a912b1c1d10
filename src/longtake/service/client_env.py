"""Generates the text that `longtake client-env` prints: how to connect client programs to the server.

docs/clients.md explains these ways.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from longtake.service.proxy import PATH
from longtake.service.tls import Tls

SHIM = Path(__file__).parents[1] / "shim"
"""The folder of the modules that redirect fal's Python and JavaScript clients."""
ANY_KEY = "any:thing"
"""The key that the instructions name for a server without keys. Such a server accepts any key, but fal's clients do not
start without one of the form `id:secret`."""


@dataclass(frozen=True)
class Reach:
    """The addresses at which clients reach a server. URLs have the form `scheme://host:port`.

    http: the URL for HTTP.
    https: the URL for HTTPS; None if the server does not use TLS.
    tunnel: the URL of the proxy in `service.tunnel`, for the environment variable HTTPS_PROXY; None if the server does
        not use TLS.
    tls: the server's certificate files; None if the server does not use TLS.
    has_keys: True if callers need a key.
    """

    http: str
    https: str | None = None
    tunnel: str | None = None
    tls: Tls | None = None
    has_keys: bool = False


def instructions(reach: Reach) -> str:
    """Returns the text with all ways to connect a client program to this server.

    Each way has a heading and the lines to paste into a shell or into the program.
    """
    key = "<id>:<secret>" if reach.has_keys else ANY_KEY
    recipes = [_python(reach, key), _node(reach, key), _javascript(reach, key)]
    if reach.https is not None and reach.tls is not None:
        recipes += [_hosts(reach.https, reach.tls, key)]
        recipes += [] if reach.tunnel is None else [_tunnel(reach.tunnel, reach.tls, key)]
    if reach.has_keys:
        recipes.append("A key is made by:\n  longtake keys create")
    return "\n\n".join(recipes)


def _export(**variables: str) -> str:
    """Returns a line, indented by two spaces, with the shell command that sets these environment variables."""
    return "  export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def _python(reach: Reach, key: str) -> str:
    return "\n".join(
        (
            "Python, the program as it is (everything, uploads too):",
            _export(FAL_KEY=key, FAL_LOCAL_URL=reach.http, PYTHONPATH=str(SHIM)),
        )
    )


def _node(reach: Reach, key: str) -> str:
    module = (SHIM / "fal_local.mjs").as_uri()
    return "\n".join(
        (
            "JavaScript in Node, the program as it is (everything, uploads too):",
            _export(FAL_KEY=key, FAL_LOCAL_URL=reach.http, NODE_OPTIONS=f"--import={module}"),
        )
    )


def _javascript(reach: Reach, key: str) -> str:
    return "\n".join(
        (
            "JavaScript anywhere, once at the start of the program (everything, uploads too):",
            "  fal.config({",
            f'    credentials: "{key}",',
            f'    proxyUrl: {{ url: "{reach.http}{PATH}", when: "always" }},',
            "  });",
        )
    )


def _hosts(https: str, tls: Tls, key: str) -> str:
    host = urlsplit(https).netloc
    return "\n".join(
        (
            "Python over TLS (everything but uploads; pass URLs, or fal_client.encode_file):",
            _export(
                FAL_KEY=key,
                FAL_RUN_HOST=f"{host}/run",
                FAL_QUEUE_RUN_HOST=f"{host}/queue",
                SSL_CERT_FILE=str(tls.bundle),
            ),
        )
    )


def _tunnel(tunnel: str, tls: Tls, key: str) -> str:
    return "\n".join(
        (
            "Python over TLS, through the tunnel (everything, uploads too; other https hosts go into NO_PROXY):",
            _export(FAL_KEY=key, HTTPS_PROXY=tunnel, SSL_CERT_FILE=str(tls.bundle), NO_PROXY="localhost,127.0.0.1"),
        )
    )
