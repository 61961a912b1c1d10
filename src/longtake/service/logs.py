"""The server's log: lines for people on a terminal, one JSON object per line elsewhere; on standard error."""

import logging
import re
import sys
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

from longtake.settings import Settings

QUIET = ("httpcore", "httpx", "alembic", "asyncio", "uvicorn")
"""Libraries that are heard from warnings on: among them are those who would tell whole addresses, and with them the
secrets in their queries."""

LONGEST = 2000
"""Characters of one value; of a traceback ten times as many."""

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
    """Sends everything that is logged, by structlog or the standard library, through one chain."""
    out = stream or sys.stderr
    console = out.isatty() if settings.log_format == "auto" else settings.log_format == "console"
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,
        discreet,
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
        plain = structlog.dev.plain_traceback  # the other one shows variables, and what they hold
        end = structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=36, exception_formatter=plain)
    else:
        end = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    formatter = structlog.stdlib.ProcessorFormatter(
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, end],
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *common],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def discreet(_: Any, __: str, event: EventDict) -> EventDict:
    """Takes secrets and data URIs out of a line, and the end of what is very long."""
    for name, value in event.items():
        if name == "exception":
            event[name] = veiled(str(value), LONGEST * 10)
        elif isinstance(value, str):
            event[name] = veiled(value)
        elif isinstance(value, dict | list | tuple | bytes):
            event[name] = veiled(repr(value))
    return event


def veiled(text: str, most: int = LONGEST) -> str:
    """The text as the log may have it."""
    shown = _DATA_URI.sub(lambda found: f"data:({len(found[0])} characters)", text)
    shown = _SECRETS.sub(lambda found: f"{found[1] or ''}***", shown)
    return shown if len(shown) <= most else f"{shown[:most]}... ({len(shown)} characters)"
