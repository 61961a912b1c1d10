"""The evaluation's sampler continues a clip with the embedded model."""

import torch

from recipes.tiny import measure, sampler
from recipes.tiny.render import render
from recipes.tiny.world import prompt, sample


def test_a_continued_clip_is_nearer_to_the_truth_than_a_frozen_one() -> None:
    scene = sample(900_000_003, "straight", num_frames=25)
    clip = render([scene])
    made = sampler.extend(sampler.load(), clip[:, :, :17], 25, [prompt(scene)])
    assert made.shape == clip.shape
    frozen = clip[:, :, 16:17].expand(-1, -1, 8, -1, -1)
    assert measure.psnr(made[0, :, 17:], clip[0, :, 17:]) > measure.psnr(frozen[0], clip[0, :, 17:]) + 2
    assert torch.equal(made, sampler.extend(sampler.load(), clip[:, :, :17], 25, [prompt(scene)]))
