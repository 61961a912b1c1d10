"""The evaluation's sampler continues a clip with the embedded model."""

from collections.abc import Callable

import pytest
import torch

from recipes.tiny import measure, sampler
from recipes.tiny.render import render
from recipes.tiny.world import prompt, sample

Extend = Callable[..., torch.Tensor]


@pytest.mark.parametrize("extend", [sampler.extend, sampler.extend_in_windows])
def test_a_continued_clip_is_nearer_to_the_truth_than_a_frozen_one(extend: Extend) -> None:
    scene = sample(900_000_003, "straight", num_frames=25)
    clip = render([scene])
    made = extend(sampler.load(), clip[:, :, :17], 25, [prompt(scene)])
    assert made.shape == clip.shape
    frozen = clip[:, :, 16:17].expand(-1, -1, 8, -1, -1)
    assert measure.psnr(made[0, :, 17:], clip[0, :, 17:]) > measure.psnr(frozen[0], clip[0, :, 17:]) + 2
    assert torch.equal(made, extend(sampler.load(), clip[:, :, :17], 25, [prompt(scene)]))


def test_windows_continue_each_other() -> None:
    scene = sample(900_000_003, "straight", num_frames=61)
    made = sampler.extend_in_windows(sampler.load(), render([scene])[:, :, :17], 61, [prompt(scene)])
    assert made.shape[2] == 61
    steps = (made[0, :, 1:] - made[0, :, :-1]).abs().mean(dim=(0, 2, 3))
    assert steps[24:].max() < 3 * steps[24:].median(), "no jump where windows meet"
