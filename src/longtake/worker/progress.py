"""Reports the progress of a request to the server and measures how long each stage takes."""

import time

from longtake.video import Progress
from longtake.worker.channel import Channel, RequestChannel
from longtake.worker.messages import ProgressReport


class ProgressReporter:
    """A callback that sends each new step of a request to the server, and measures the time of each stage.

    A call raises Cancelled if the server has cancelled the request, which ends the work. The attribute `seconds` maps
    the name of each finished stage to the seconds spent in it.

    `channel`: the request's connection to the server, or that of the process while it loads the first model.
    """

    def __init__(self, channel: Channel | RequestChannel) -> None:
        self.seconds: dict[str, float] = {}
        self._channel = channel
        self._stage: str | None = None
        self._since = time.perf_counter()
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        self._channel.check()
        stage = progress.kind
        self.enter(stage)
        if progress == self._last:
            return
        self._last = progress
        self._channel.send(ProgressReport(sentence(progress), **{**vars(progress), "stage": stage}))

    def enter(self, stage: str | None) -> None:
        """Ends the current stage, adds its time to `seconds`, and begins `stage`. With None no stage begins."""
        now = time.perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now


def sentence(progress: Progress) -> str:
    """Returns the current stage of the work as text for people, such as "Sampling new frames, window 2 of 3".

    All reports of a stage have the same text, because it does not contain the step. Only the text for sampling contains
    the window (frames that are sampled together), if there are several.
    """
    if progress.kind == "sampling" and progress.windows > 1:
        return f"{progress.title}, window {progress.window} of {progress.windows}"
    return progress.title
