"""The server's log on standard error. By default it has readable lines on a terminal, else one JSON object per line."""

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from longtake.printable import printable, printable_lines
from longtake.settings import Settings

QUIET_LOGGERS = ("httpcore", "httpx", "alembic", "asyncio", "uvicorn")
"""Loggers of libraries that log only warnings and errors here. Their other messages include whole URLs, which may
contain secrets."""

MAX_LENGTH = 2000
"""Maximum length of a logged value in characters. A traceback may be ten times as long."""

_DATA_URI = re.compile(r"data:[\w/+.;=-]{0,200},[A-Za-z0-9+/=%_.~-]*")
_SECRETS = re.compile(
    r"""(?ix)
    ( \b(?:key|bearer)\s+ | \bfal_(?:key|jwt_token)=
    | \b(?:authorization|password|secret|token|signature|sig)["']?\s*[=:]\s*["']?(?:(?:key|bearer|basic)\s+)? )
    [\w.+/=~%:-]{8,}
    | (?<=://) [^/\s:@]* : [^/\s@]+ (?=@)
    | (?<=\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}:) [0-9a-f]{64}
    """
)


def setup(settings: Settings, stream: TextIO | None = None) -> None:
    """Configures structlog and the standard library's logging to write to `stream`, or to standard error if it is None.

    The setting `log_format` selects the form of the lines. Messages below level info are dropped.
    """
    out = stream or sys.stderr
    console = out.isatty() if settings.log_format == "auto" else settings.log_format == "console"
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,
        without_secrets,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    end: Processor
    if console:
        # The default traceback shows the values of variables, which may be secret.
        plain = structlog.dev.plain_traceback
        end = structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=36, exception_formatter=plain)
    else:
        end = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, without_controls, end],
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *common],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def without_secrets(_: Any, __: str, event: EventDict) -> EventDict:
    """A structlog processor that returns a log line with all secrets removed by `redacted`.

    `event` has the values of the line by their names. Texts are redacted, lists, dictionaries and bytes are turned into
    text and redacted, and all other values stay unchanged.
    """
    for name, value in event.items():
        if name == "exception":
            event[name] = redacted(str(value), MAX_LENGTH * 10)
        elif isinstance(value, str):
            event[name] = redacted(value)
        elif isinstance(value, dict | list | tuple | bytes):
            event[name] = redacted(repr(value))
    return event


def without_controls(_: Any, __: str, event: EventDict) -> EventDict:
    """A structlog processor that returns a log line whose unprintable characters are escapes (see `printable`).

    `event` has the values of the line by their names. Only a traceback may have several lines.
    """
    for name, value in event.items():
        if name == "exception":
            event[name] = printable_lines(value)
        elif not isinstance(value, bool | int | float | None):
            event[name] = printable(str(value))
    return event


def redacted(text: str, max_length: int = MAX_LENGTH) -> str:
    """Returns the text with `***` in place of each secret, and with the length of each data URI in place of the URI.

    Secrets are API keys, the values after words such as `password=` or `token:`, and the user name and password in a
    URL.

    If the new text has more than `max_length` characters, it is cut there, and its full length is appended.
    """
    shown = _DATA_URI.sub(lambda found: f"data:({len(found[0])} characters)", text)
    shown = _SECRETS.sub(lambda found: f"{found[1] or ''}***", shown)
    return shown if len(shown) <= max_length else f"{shown[:max_length]}... ({len(shown)} characters)"
