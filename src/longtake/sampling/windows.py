"""The loop over the windows of a plan: each window is sampled, saved and made a clip before the next one begins."""

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from longtake.plans import Plan
from longtake.sampling.noise import Noise, seeded
from longtake.sampling.resume import Resume
from longtake.video import OnProgress, Progress

OnStep = Callable[[int, int], None]
"""Called before step i (from 0) of n; it stops the sampling by raising."""

Tensors = Mapping[str, Tensor]
"""The tensors of a sampled window, under the names that they are saved by."""

StateT = TypeVar("StateT")
OutT = TypeVar("OutT")


def ignore_step(step: int, steps: int) -> None:
    """An OnStep that does nothing."""


@dataclass(frozen=True)
class WindowRun:
    """One window while it is sampled: its `number` (from 0) of `count`, the noise of each pass, and the step callback.

    `noise(n)` is the noise of pass n (from 0).
    """

    number: int
    count: int
    noise: Callable[[int], Noise]
    on_step: OnStep

    @property
    def is_last(self) -> bool:
        return self.number == self.count - 1


@dataclass(frozen=True)
class Loop:
    """The loop over the `count` windows of one plan.

    `noise(pass, window)` is the noise of a pass over a window, both from 0. Sampled windows are saved in `resume` and
    read back onto `device`.
    """

    count: int
    noise: Callable[[int, int], Noise]
    resume: Resume
    on_progress: OnProgress
    device: torch.device

    @classmethod
    def of(cls, plan: Plan, resume: Resume, on_progress: OnProgress, device: torch.device) -> "Loop":
        """Returns the loop of a plan, with the noise of its seed."""

        def noise(pass_number: int, window: int) -> Noise:
            return seeded(plan.seed, pass_number, window, device)

        return cls(plan.num_windows, noise, resume, on_progress, device)

    def window(self, number: int) -> WindowRun:
        """Returns window `number` (from 0), with its own noise and a step callback that reports its progress."""

        def noise(pass_number: int) -> Noise:
            return self.noise(pass_number, number)

        def on_step(step: int, steps: int) -> None:
            self.on_progress(Progress("sampling", step, steps, number + 1, self.count))

        return WindowRun(number, self.count, noise, on_step)


def sample_windows(
    loop: Loop,
    state: StateT,
    sample: Callable[[WindowRun, StateT], Tensors],
    after: Callable[[WindowRun, StateT, Tensors], Generator[OutT, None, StateT]],
) -> Iterator[OutT]:
    """Samples the windows in turn and yields what `after` yields for each.

    `sample(window, state)` samples a window that is not saved yet. `after(window, state, tensors)` yields the results
    of its tensors and returns the state that the next window starts from; `state` is that of the first window.
    """
    for number in range(loop.count):
        window = loop.window(number)
        tensors = loop.resume.tensors(f"window-{number:03d}", partial(sample, window, state), loop.device)
        state = yield from after(window, state, tensors)
