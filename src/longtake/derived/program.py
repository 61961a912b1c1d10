"""Makes one derived file (such as a strip of frames) of a stored video. The server starts this program for each of
them.

    python -m longtake.derived.program < ORDER

ORDER is a JSON object that says which file to make of which video (the class `derived.order.Order`). The program writes
lines of JSON to standard output: {"share": 0..1} while it works, and at the end one of these:
- {"facts": object}, the facts about the new file
- {"error": name of the class of a LongtakeError, "message": sentence for the user, "ctx": object with details}
- {"traceback": text}, for an unexpected error

The program runs with low priority. It does not decode the video itself, but in a sandboxed child process.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from longtake import system
from longtake.derived.order import PICTURE, Order
from longtake.errors import InvalidRequest, LongtakeError
from longtake.media.source import SourceReader, open_source

Report = Callable[[float], None]
"""A function that is called with the share (0..1) of the work that is done."""

Maker = Callable[[SourceReader, Path, Report, Mapping[str, Any]], Mapping[str, Any]]
"""A function maker(video, path, report, arguments) that makes a file from the video, such as a strip of frames, at
`path` and returns facts about it.

The facts are a JSON object. Some makers only return facts and write no file.
"""

MEMORY_BYTES = 6 << 30
"""The largest address space in bytes that this program may use. It makes one derived file (such as a strip of a video's
frames) in a process of its own."""


def _facts(source: SourceReader, out: Path, report: Report, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    from longtake.derived.facts import file_facts

    return file_facts(source)


def _source(source: SourceReader, out: Path, report: Report, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    from longtake.derived.facts import source_facts

    return source_facts(source)


def _strip(source: SourceReader, out: Path, report: Report, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    from longtake.derived.strip import draw_strip

    return draw_strip(source, out, **arguments)


def _wave(source: SourceReader, out: Path, report: Report, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    from longtake.derived.wave import waveform

    return waveform(source, **arguments)


def _copy(source: SourceReader, out: Path, report: Report, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    from longtake.derived.copies import write_copy

    write_copy(source, out, report)
    return {}


def _joint(source: SourceReader, out: Path, report: Report, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    from longtake.derived.joint import inspect_joint
    from longtake.families import plan_from_json

    plan = plan_from_json(arguments["plan"])
    if plan is None:
        raise InvalidRequest("Another version of longtake made this video, and its plan cannot be read.")
    return inspect_joint(source, out, plan, arguments["caption"])


MAKERS: Mapping[str, Maker] = {
    "facts": _facts,
    "source": _source,
    "strip": _strip,
    "wave": _wave,
    "copy": _copy,
    "joint": _joint,
}
"""Kind of derived file (such as a strip of a video's frames) -> the function that makes it. Each function imports its
own modules when it is called, so that the program starts quickly."""


def made(order: Order, report: Report) -> Mapping[str, Any]:
    """Carries out an order, which says what file (such as a strip of frames) to make of which video, and returns the
    facts about that file.

    `report`: is called with the share of the work that is done.
    """
    if order.maker == PICTURE:
        from longtake.media.still import open_still

        height, width, _ = open_still(Path(order.path), limits=order.limits).pixels.shape
        return {"width": width, "height": height}
    with open_source(Path(order.path), limits=order.limits) as source:
        return MAKERS[order.maker](source, Path(order.out), report, order.arguments)


def main() -> None:
    """Reads an `Order` as JSON from standard input, makes its file, and writes lines of JSON to standard output.

    While the file is made, the lines are {"share": 0..1}. The last line is {"facts": ...} if the file was made,
    otherwise {"error": ...} or {"traceback": ...}.
    """
    system.end_with_starter()
    system.give_way()
    system.limit_memory(MEMORY_BYTES)
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # text that a library prints must not get between the answers

    def send(**values: Any) -> None:
        lines.write(json.dumps(values, allow_nan=False) + "\n")

    order = Order.from_json(sys.stdin.read())
    try:
        send(facts=made(order, lambda share: send(share=share)))
    except LongtakeError as error:
        send(error=type(error).__name__, message=error.message, ctx=error.ctx)
    except Exception:
        send(traceback=traceback.format_exc())
        sys.exit(1)


if __name__ == "__main__":
    main()
