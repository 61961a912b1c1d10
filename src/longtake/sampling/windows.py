"""The loop over the windows: each is sampled, saved and decoded before the next one."""

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
"""A callback before each step. Its arguments are the step's number (from 0) and the number of steps.

It stops the sampling by raising an exception.
"""

Estimate = Callable[[], Tensor]
"""A function that returns the present estimate of the clean video latents that are being sampled, [1, C, F, H, W]."""

OnEstimate = Callable[[int, int, Estimate], None]
"""A callback in each step, after the model has predicted. Its arguments are the step's number (from 0), the number of
steps, and a function that returns the present estimate of the clean video latents. It must not change these latents.
"""

Tensors = Mapping[str, Tensor]
"""The tensors of a sampled window, such as its latents, by the names under which they are saved."""

StateT = TypeVar("StateT")
OutT = TypeVar("OutT")


def ignore_step(step: int, steps: int) -> None:
    """Does nothing; the default step callback."""


def ignore_steps(number: int) -> OnStep:
    """Returns the default step callback, `ignore_step`. `number` is not used."""
    return ignore_step


def ignore_estimate(step: int, steps: int, estimate: Estimate) -> None:
    """Does nothing; the default callback for estimates of the clean latents."""


def ignore_estimates(number: int) -> OnEstimate:
    """Returns the default callback for estimates of the clean latents, `ignore_estimate`. `number` is not used."""
    return ignore_estimate


@dataclass(frozen=True)
class WindowRun:
    """The inputs of the sampling of one window.

    number: the window's number, from 0.
    count: the number of windows of the plan.
    noise: a function of the number (from 0) of a pass. It returns the function that draws the noise of that pass over
        this window.
    on_step: a function of a pass's number (from 0). It returns the callback before each step of that pass.
    """

    number: int
    count: int
    noise: Callable[[int], Noise]
    on_step: Callable[[int], OnStep]

    @property
    def is_last(self) -> bool:
        return self.number == self.count - 1


@dataclass(frozen=True)
class Loop:
    """The settings of the loop over the windows of one plan.

    count: the number of windows.
    passes: the number of passes over each window.
    noise: a function of a pass's number and a window's number (both from 0). It returns the function that draws the
        noise of that pass over that window.
    resume: saves each sampled window. A window that an interrupted run has saved is read, not sampled again.
    on_progress: the callback that receives the progress of sampling.
    device: the device onto which saved windows are read.
    """

    count: int
    passes: int
    noise: Callable[[int, int], Noise]
    resume: Resume
    on_progress: OnProgress
    device: torch.device

    @classmethod
    def of(cls, plan: Plan, resume: Resume, on_progress: OnProgress, device: torch.device) -> "Loop":
        """Returns the settings of the loop over the windows of `plan`. `device` is the model's device, onto which
        the noise and saved windows are put."""

        def noise(pass_number: int, window: int) -> Noise:
            return seeded(plan.seed, pass_number, window, device)

        return cls(plan.num_windows, plan.num_passes, noise, resume, on_progress, device)

    def window(self, number: int) -> WindowRun:
        """Returns what the sampling of window `number` (from 0) needs. Its step callback reports to `on_progress`."""

        def noise(pass_number: int) -> Noise:
            return self.noise(pass_number, number)

        def on_step(pass_number: int) -> OnStep:
            def report(step: int, steps: int) -> None:
                self.on_progress(
                    Progress("sampling", step, steps, number + 1, self.count, pass_number + 1, self.passes)
                )

            return report

        return WindowRun(number, self.count, noise, on_step)


def sample_windows(
    loop: Loop,
    state: StateT,
    sample: Callable[[WindowRun, StateT], Tensors],
    after: Callable[[WindowRun, StateT, Tensors], Generator[OutT, None, StateT]],
) -> Iterator[OutT]:
    """Samples the windows one after the other, and yields everything that `after` yields.

    A state is what a window passes on to the next one, such as the frames that the next one continues.

    loop: the settings of the loop.
    state: the state for the first window.
    sample: a function of a window and its state that returns the window's tensors. It is not called for a window whose
        tensors are saved already.
    after: a function of a window, its state and its tensors. It yields the window's results and returns the state for
        the next window.
    """
    for number in range(loop.count):
        window = loop.window(number)
        tensors = loop.resume.tensors(f"window-{number:03d}", partial(sample, window, state), loop.device)
        state = yield from after(window, state, tensors)
