"""The loop over the windows of a plan: order, noise, progress and resuming."""

from collections.abc import Generator, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from longtake.errors import Cancelled
from longtake.families.ltxv.options import LTXVOptions, PassOptions
from longtake.families.ltxv.plan import make_plan
from longtake.sampling.noise import Noise, seeded
from longtake.sampling.resume import NO_RESUME, Resume
from longtake.sampling.windows import Loop, WindowRun, sample_windows
from longtake.video import OnProgress, Progress, VideoInfo, ignore_progress
from tests.families.progress import assert_share_never_falls
from tests.models.cards import ltxv_card

CPU = torch.device("cpu")
COUNT, PASSES, STEPS = 3, 2, 4


def named(pass_number: int, window: int) -> Noise:
    """Noise that holds the numbers of its pass and window."""
    return lambda name, shape: torch.tensor([float(pass_number), float(window)])


def loop(resume: Resume = NO_RESUME, on_progress: OnProgress = ignore_progress) -> Loop:
    return Loop(COUNT, PASSES, named, resume, on_progress, CPU)


class Counting:
    """Steps of a loop whose state counts what was sampled: each window is the sum of all before it and its number."""

    def __init__(self) -> None:
        self.events: list[str] = []
        """What happened, in order."""
        self.windows: list[WindowRun] = []

    def sample(self, window: WindowRun, state: float) -> Mapping[str, Tensor]:
        self.events.append(f"sample {window.number} from {state:g}")
        self.windows.append(window)
        for number in range(PASSES):
            for step in range(STEPS):
                window.on_step(number)(step, STEPS)
        return {"sum": torch.tensor(state + window.number + 1)}

    def after(self, window: WindowRun, state: float, tensors: Mapping[str, Tensor]) -> Generator[str, None, float]:
        self.events.append(f"after {window.number} from {state:g}")
        yield f"first of {window.number}"
        yield f"second of {window.number}"
        self.events.append(f"end of {window.number}")
        return float(tensors["sum"])

    def run(self, loop: Loop) -> Iterator[str]:
        return sample_windows(loop, 10.0, self.sample, self.after)


def test_each_window_starts_from_what_came_of_the_one_before() -> None:
    steps = Counting()
    assert list(steps.run(loop())) == [f"{one} of {number}" for number in range(COUNT) for one in ("first", "second")]
    assert [line for line in steps.events if line.startswith("sample")] == [
        "sample 0 from 10",
        "sample 1 from 11",
        "sample 2 from 13",
    ]
    assert [line for line in steps.events if line.startswith("after")] == [
        "after 0 from 10",
        "after 1 from 11",
        "after 2 from 13",
    ]
    assert [(window.number, window.count, window.is_last) for window in steps.windows] == [
        (0, COUNT, False),
        (1, COUNT, False),
        (2, COUNT, True),
    ]


def test_a_window_is_sampled_when_all_of_the_one_before_was_taken() -> None:
    steps = Counting()
    pieces = steps.run(loop())
    assert steps.events == [], "nothing is done before it is asked for"
    assert next(pieces) == "first of 0"
    assert steps.events == ["sample 0 from 10", "after 0 from 10"]
    assert next(pieces) == "second of 0"
    assert steps.events[2:] == []
    assert next(pieces) == "first of 1"
    assert steps.events[2:] == ["end of 0", "sample 1 from 11", "after 1 from 11"]


def test_progress_counts_windows_from_one() -> None:
    heard: list[Progress] = []
    list(Counting().run(loop(on_progress=heard.append)))
    assert heard == [
        Progress("sampling", step, STEPS, number, COUNT, sampling_pass, PASSES)
        for number in range(1, COUNT + 1)
        for sampling_pass in range(1, PASSES + 1)
        for step in range(STEPS)
    ]
    assert_share_never_falls(heard, until={"sampling": 0.9})


def test_each_pass_over_each_window_has_its_noise() -> None:
    steps = Counting()
    list(steps.run(loop()))
    noise = [[window.noise(number)("init", (2,)).tolist() for number in (0, 1)] for window in steps.windows]
    assert noise == [[[0, window], [1, window]] for window in range(COUNT)], "also when it is drawn later"


def test_the_noise_of_a_plan_is_that_of_its_seed() -> None:
    options = LTXVOptions(prompt="a", passes=(PassOptions(8), PassOptions(8, 5)), num_frames=121, frame_rate=24)
    plan = make_plan(options, VideoInfo("mp4", "h264", 64, 64, Fraction(24), 17), ltxv_card("ltxv-tiny"), 99)
    assert (plan.num_windows, plan.num_passes) == (4, 2)
    of_plan = Loop.of(plan, NO_RESUME, ignore_progress, CPU)
    assert (of_plan.count, of_plan.passes) == (4, 2)
    for number in (0, 1):
        for window in range(4):
            wanted = seeded(99, number, window)("init", (5,))
            assert torch.equal(of_plan.noise(number, window)("init", (5,)), wanted)


def test_saved_windows_are_not_sampled_again(tmp_path: Path) -> None:
    whole = list(Counting().run(loop()))

    def stop_in_the_second_window(progress: Progress) -> None:
        if (progress.window, progress.step) == (2, 1):
            raise Cancelled

    stopped = Counting()
    with pytest.raises(Cancelled):
        list(stopped.run(loop(Resume(tmp_path), stop_in_the_second_window)))
    assert [path.name for path in tmp_path.iterdir()] == ["window-000.safetensors"]
    again = Counting()
    heard: list[Progress] = []
    assert list(again.run(loop(Resume(tmp_path), heard.append))) == whole
    assert [window.number for window in again.windows] == [1, 2]
    assert again.events[0] == "after 0 from 10", "what comes of a saved window is made anew"
    assert again.events[2] == "sample 1 from 11"
    assert heard[0] == Progress("sampling", 0, STEPS, 2, COUNT, 1, PASSES)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"window-{n:03d}.safetensors" for n in range(COUNT)]
    third = Counting()
    assert list(third.run(loop(Resume(tmp_path)))) == whole
    assert not third.windows, "nothing is left to sample"


def test_a_window_is_saved_before_anything_is_made_of_it(tmp_path: Path) -> None:
    pieces = Counting().run(loop(Resume(tmp_path)))
    next(pieces)
    assert [path.name for path in tmp_path.iterdir()] == ["window-000.safetensors"]
