"""Generates the text that `longtake client-env` prints: how to connect client programs to the server.

docs/clients.md explains each way to connect.
"""

import shlex
from collections.abc import Mapping
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
    variables = environments(reach)
    recipes = [
        f"Python, the program as it is (everything, uploads too):\n{_export(variables['python'])}",
        f"JavaScript in Node, the program as it is (everything, uploads too):\n{_export(variables['node'])}",
        _javascript(reach),
    ]
    if "python_tls" in variables:
        title = "Python over TLS (everything but uploads; pass URLs, or fal_client.encode_file):"
        recipes.append(f"{title}\n{_export(variables['python_tls'])}")
    if "python_tunnel" in variables:
        title = "Python over TLS, through the tunnel (everything, uploads too; other https hosts go into NO_PROXY):"
        recipes.append(f"{title}\n{_export(variables['python_tunnel'])}")
    if reach.has_keys:
        recipes.append("A key is made by:\n  longtake keys create")
    return "\n\n".join(recipes)


def environments(reach: Reach) -> dict[str, dict[str, str]]:
    """Returns the environment variables that let a program with fal's client use this server: way to connect -> name of
    the variable -> value.

    The ways are `python` and `node` (fal's client in these languages, over HTTP) and, if the server uses TLS,
    `python_tls` (over HTTPS) and `python_tunnel` (over the server's own HTTPS proxy, `service.tunnel`).

    reach: the addresses of the server, and whether it needs keys.
    """
    key = _key(reach)
    ways = {
        "python": {"FAL_KEY": key, "FAL_LOCAL_URL": reach.http, "PYTHONPATH": str(SHIM)},
        "node": {
            "FAL_KEY": key,
            "FAL_LOCAL_URL": reach.http,
            "NODE_OPTIONS": f"--import={(SHIM / 'fal_local.mjs').as_uri()}",
        },
    }
    if reach.https is None or reach.tls is None:
        return ways
    bundle, host = str(reach.tls.bundle), urlsplit(reach.https).netloc
    ways["python_tls"] = {
        "FAL_KEY": key,
        "FAL_RUN_HOST": f"{host}/run",
        "FAL_QUEUE_RUN_HOST": f"{host}/queue",
        "SSL_CERT_FILE": bundle,
    }
    if reach.tunnel is not None:
        ways["python_tunnel"] = {
            "FAL_KEY": key,
            "HTTPS_PROXY": reach.tunnel,
            "SSL_CERT_FILE": bundle,
            "NO_PROXY": "localhost,127.0.0.1",
        }
    return ways


def _key(reach: Reach) -> str:
    return "<id>:<secret>" if reach.has_keys else ANY_KEY


def _export(variables: Mapping[str, str]) -> str:
    """Returns a line, indented by two spaces, with the shell command that sets these environment variables."""
    return "  export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def _javascript(reach: Reach) -> str:
    return "\n".join(
        (
            "JavaScript anywhere, once at the start of the program (everything, uploads too):",
            "  fal.config({",
            f'    credentials: "{_key(reach)}",',
            f'    proxyUrl: {{ url: "{reach.http}{PATH}", when: "always" }},',
            "  });",
        )
    )
