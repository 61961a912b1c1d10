"""The loop over the windows of a plan: each window is sampled, saved, and handed on before the next one begins."""

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
"""Called before step i of n; it stops the sampling by raising."""

Tensors = Mapping[str, Tensor]
"""The tensors of a sampled window, by the names under which they are saved."""

StateT = TypeVar("StateT")
OutT = TypeVar("OutT")


@dataclass(frozen=True)
class Window:
    """One window while it is sampled: its `number` of `count`, the noise of each pass, and whom to tell of steps."""

    number: int
    count: int
    noise: Callable[[int], Noise]
    on_step: OnStep

    @property
    def is_last(self) -> bool:
        return self.number == self.count - 1


@dataclass(frozen=True)
class Loop:
    """The loop over the windows of one plan.

    `noise(pass, window)` is the noise to use. Finished windows are saved in `resume`, and read back on `device`.
    """

    count: int
    noise: Callable[[int, int], Noise]
    resume: Resume
    on_progress: OnProgress
    device: torch.device

    @classmethod
    def of(cls, plan: Plan, resume: Resume, on_progress: OnProgress, device: torch.device) -> "Loop":
        """The loop of a plan, with noise by its seed."""
        noise = partial(_noise, plan.seed, device)
        return cls(plan.num_windows, noise, resume, on_progress, device)


def _noise(seed: int, device: torch.device, pass_number: int, window: int) -> Noise:
    return seeded(seed, pass_number, window, device)


def sample_windows(
    loop: Loop,
    state: StateT,
    sample: Callable[[Window, StateT], Tensors],
    after: Callable[[Window, StateT, Tensors], Generator[OutT, None, StateT]],
) -> Iterator[OutT]:
    """Samples the windows in turn and yields what `after` makes of each.

    `sample(window, state)` samples a window that is not saved yet. `after(window, state, tensors)` yields what comes of
    its tensors and returns the state that the next window starts from.
    """
    for number in range(loop.count):
        window = _window(loop, number)

        def make(window: Window = window, state: StateT = state) -> Tensors:
            return sample(window, state)

        tensors = loop.resume.tensors(f"window-{number:03d}", make, loop.device)
        state = yield from after(window, state, tensors)


def _window(loop: Loop, number: int) -> Window:
    def noise(pass_number: int) -> Noise:
        return loop.noise(pass_number, number)

    def on_step(step: int, steps: int) -> None:
        loop.on_progress(Progress("sampling", step, steps, number + 1, loop.count))

    return Window(number, loop.count, noise, on_step)
