"""The video stream's teacher computes good velocities for the windows of the second family."""

import pytest
import torch

from recipes.tiny import configs as first
from recipes.tiny import latents, sampler
from recipes.tiny import text as first_text
from recipes.tiny.render import render
from recipes.tiny.world import prompt, sample
from recipes.tiny_av import text, windows
from recipes.tiny_av.teacher import Teacher, in_front
from recipes.tiny_av.windows import Batch, Clean

CPU = torch.device("cpu")
COUNT = 9


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Two windows of one straight clip: one continues its start, and one leads to its end."""
    if not (first.WEIGHTS / "model_index.json").exists():
        pytest.skip("the first family's weights are not here")
    torch.set_num_threads(1)
    family, scene = sampler.load(), sample(940_000_000, "straight", num_frames=33)
    with torch.no_grad():
        latent = (family.vae.encode(render([scene])).latent_dist.mode() - family.mean) / family.std
    tokens = latent.permute(0, 2, 3, 4, 1).flatten(2, 3).expand(2, -1, -1, -1)
    touched = latents.cell_masks([scene], 1).flatten(2).float().expand(2, -1, -1)
    at = torch.arange(COUNT)
    known = torch.stack([at < 5, at >= 5])
    dice, level = torch.Generator().manual_seed(1), torch.tensor([0.95, 0.95])
    place = windows.video_coords(windows.spans(COUNT), 4, 4, first.FPS)
    video = windows.noised(Clean(tokens, touched, known), level, 0.0, dice, place)
    heard = Clean(torch.zeros(2, 33, 1, 32), torch.zeros(2, 33, 1), torch.zeros(2, 33, dtype=torch.bool))
    audio = windows.noised(heard, level, 0.0, dice, windows.audio_coords(33))
    ids, mask = text.tokens(text.tokenizer(), [prompt(scene)] * 2)
    return Batch(video, audio, ids, mask, torch.ones(2))


def test_the_teacher_knows_where_an_object_goes(batch: Batch) -> None:
    made = Teacher(1.0, CPU, compiled=False).taught(batch).video
    off = (made.target - batch.video.target)[0].square().mean(-1)
    seen = batch.video.weight[0]
    assert float((off * seen).sum() / seen.sum()) < 0.2


def test_windows_that_lead_to_a_known_end_keep_the_true_velocities(batch: Batch) -> None:
    made = Teacher(1.0, CPU, compiled=False).taught(batch).video
    assert made.target[1].equal(batch.video.target[1])


def test_the_target_is_the_mean_that_the_share_says(batch: Batch) -> None:
    whole, half = (Teacher(share, CPU, compiled=False).taught(batch).video.target[0] for share in (1.0, 0.5))
    torch.testing.assert_close(half, (whole + batch.video.target[0]) / 2)


def test_prompts_reach_the_teacher_as_its_own_tokenizer_gives_them() -> None:
    lines = ["a red circle moving left over clouds", "", "a ?"]
    own, its = text.tokens(text.tokenizer(), lines), first_text.tokens(first_text.tokenizer(), lines)
    for mine, true in zip(in_front(*own), its, strict=True):
        assert mine.equal(true)
