"""The order of the work on the streams of the simulated GPUs, and the checks that it is right.

All work is done at once, so what is checked is the order that a GPU would guarantee. Each stream counts its work. The
clock of a stream says, for each other stream, how much of that stream's work is done for certain before its next work.
"""

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import longtake

Clock = dict[int, int]
"""Number of a stream -> how many pieces of its work are done for certain."""

OWN = (f"{Path(longtake.__file__).parent}/", f"{Path(__file__).parents[2] / 'bench'}/")
"""The folders of the package and of the benchmarks."""


def _advance(clock: Clock, other: Clock) -> None:
    for stream, done in other.items():
        clock[stream] = max(clock.get(stream, 0), done)


def place() -> str:
    """Returns the line of the package or of a benchmark that is running now, such as `runner.py:12`, or "elsewhere"."""
    for frame, line in traceback.walk_stack(None):
        if frame.f_code.co_filename.startswith(OWN):
            return f"{Path(frame.f_code.co_filename).name}:{line}"
    return "elsewhere"


@dataclass
class _Use:
    """What streams do with some memory of a GPU.

    owner: the stream for which it was allocated.
    written: the stream that wrote it last, and the number of that work.
    read: stream -> the number of its last work that reads it.
    recorded: the streams named by `record_stream`, for which the memory is kept until their work is done.
    """

    owner: int
    written: tuple[int, int]
    read: Clock = field(default_factory=dict)
    recorded: set[int] = field(default_factory=set)


@dataclass
class _Pending:
    """A copy between the GPU and pinned memory for which the host does not wait."""

    stream: int
    work: int
    finish: Callable[[], str | None]


class Streams:
    """The streams of all simulated GPUs, with the clocks of the streams and of the host.

    faults: sentences about work that a GPU might do in a wrong order.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._numbers = count()
        self._clocks: dict[int, Clock] = {}
        self._host: Clock = {}
        self._uses: dict[int, _Use] = {}
        self._pending: list[_Pending] = []

    def new(self) -> int:
        """Returns the number of a new stream."""
        number = next(self._numbers)
        self._clocks[number] = defaultdict(int)
        return number

    def begin(self, stream: int) -> int:
        """Counts a piece of work of a stream. Returns its number."""
        clock = self._clocks[stream]
        _advance(clock, self._host)
        clock[stream] = clock.get(stream, 0) + 1
        return clock[stream]

    def allocated(self, memory: int, stream: int) -> None:
        """Notes memory that was allocated for a stream's latest work."""
        if memory:
            self._uses[memory] = _Use(stream, (stream, self._clocks[stream].get(stream, 0)))

    def used(self, memories: Iterable[tuple[int, bool]], stream: int) -> None:
        """Notes that the latest work of a stream uses memories, given as (address, True if it is written)."""
        clock = self._clocks[stream]
        for memory, is_written in memories:
            use = self._uses.get(memory)
            if use is None:
                continue
            others = {use.written[0]: use.written[1]} | (use.read if is_written else {})
            if any(clock.get(other, 0) < work for other, work in others.items()):
                self.fault("work of one stream uses memory before the work of another stream with it is done")
            if is_written:
                use.written, use.read = (stream, clock[stream]), {}
            else:
                use.read[stream] = clock[stream]

    def freed(self, memory: int) -> None:
        """Notes that nothing refers to a memory any more, so that its owner's next work may overwrite it."""
        use = self._uses.pop(memory, None)
        if use is None:
            return
        clock = dict(self._clocks[use.owner])
        _advance(clock, self._host)
        users = {use.written[0]: use.written[1]} | use.read
        if any(clock.get(other, 0) < work for other, work in users.items() if other not in use.recorded):
            self.fault("memory is freed while another stream may still use it")

    def record(self, memory: int, stream: int) -> None:
        """Keeps a memory for the work of a stream, as `record_stream` does."""
        if memory in self._uses:
            self._uses[memory].recorded.add(stream)

    def snapshot(self, stream: int) -> Clock:
        """Returns the clock of an event that is recorded on a stream now."""
        return dict(self._clocks[stream])

    def wait(self, stream: int, clock: Clock) -> None:
        """Makes a stream's later work wait for an event."""
        _advance(self._clocks[stream], clock)

    def host_waits(self, clock: Clock) -> None:
        """Makes the host wait for an event, and ends the copies that are done then."""
        _advance(self._host, clock)
        done = [one for one in self._pending if self._host.get(one.stream, 0) >= one.work]
        self._pending = [one for one in self._pending if one not in done]
        for copy in done:
            fault = copy.finish()
            if fault is not None:
                self.fault(fault)

    def host_waits_for_all(self) -> None:
        """Makes the host wait for all streams."""
        for stream in self._clocks:
            self.host_waits(self.snapshot(stream))

    def copies_later(self, stream: int, work: int, finish: Callable[[], str | None]) -> None:
        """Notes a copy with pinned memory. `finish` ends it, and returns a sentence about a fault or None."""
        self._pending.append(_Pending(stream, work, finish))

    def fault(self, sentence: str) -> None:
        self.faults.append(f"{place()}: {sentence}")
