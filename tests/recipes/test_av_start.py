"""The second family starts where the first one ended, and its fast forward pass is the product's."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
import torch

from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, attach, velocities
from longtake.sampling.positions import Grid, audio_bounds
from recipes.tiny import configs as first
from recipes.tiny import sampler as first_sampler
from recipes.tiny import windows as first_windows
from recipes.tiny.forward import Forward as FirstForward
from recipes.tiny_av import caption, configs, follow, text, warm, windows
from recipes.tiny_av.forward import Forward, Modality


@pytest.fixture(scope="module")
def old() -> first_sampler.Family:
    if not (first.WEIGHTS / "model_index.json").exists():
        pytest.skip("the first family's weights are not here")
    torch.set_num_threads(1)
    family = first_sampler.load()
    blocks = family.transformer.transformer_blocks
    family.transformer.transformer_blocks = torch.nn.ModuleList(blocks[number] for number in first.KEPT_LAYERS)
    return family


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_the_picture_starts_as_the_first_family_left_it(old: first_sampler.Family) -> None:
    code = caption.code(old)
    new = warm.transformer(old.transformer, code.basis, code.centre)
    torch.manual_seed(0)
    x, sigmas = torch.randn(2, 5, 16, 64), torch.rand(2, 5)
    ids = torch.tensor([[20, 21, 30, 1], [5, 8, 22, 1]])
    captions = old.text_encoder(ids, attention_mask=torch.ones_like(ids))[0]
    tokens = (old.transformer.caption_projection(captions) - code.centre) @ torch.linalg.pinv(code.basis).mT
    corners = first_windows.coordinates(first_windows.starts(5), 4, 4, first.FPS)
    before = FirstForward(old.transformer, compiled=False)(x, sigmas, captions, torch.ones_like(ids), corners)

    video = Modality(x, sigmas, sigmas[:, -1], tokens, torch.stack([corners, corners], -1))
    sound = torch.randn(2, 18, 1, configs.TRANSFORMER["audio_in_channels"])
    heard = Modality(
        sound, torch.rand(2, 18), sigmas[:, 0], torch.randn(2, 4, configs.AUDIO_WIDTH), windows.audio_coords(18)
    )
    after, silent = Forward(new, compiled=False)(video, heard, torch.ones(2))
    assert (after - before).norm() < 0.02 * before.norm()
    assert not silent.any()


def test_a_first_family_with_more_layers_gives_those_that_it_had_before(old: first_sampler.Family) -> None:
    code = caption.code(old)
    kept, whole = (
        warm.transformer(each, code.basis, code.centre) for each in (old.transformer, first_sampler.load().transformer)
    )
    torch.testing.assert_close(whole.state_dict(), kept.state_dict())


def test_old_captions_are_written_in_the_new_code(old: first_sampler.Family) -> None:
    code = caption.code(old)
    made, mask = caption.captions(old, caption.prompts(5, 40))
    found = made[mask.bool()]
    solution = (found - code.centre) @ torch.linalg.pinv(code.basis).mT
    assert (code.centre + solution @ code.basis.mT - found).norm() < 0.02 * found.norm()
    assert solution.square().mean(-1).max() < 1.05


def test_the_fast_forward_pass_is_the_products() -> None:
    torch.manual_seed(1)
    small = configs.TRANSFORMER | {"num_layers": 2}
    from diffusers import LTX2VideoTransformer3DModel

    model: Any = LTX2VideoTransformer3DModel(**small)
    grid, seconds = Grid(4, 16, Fraction(25)), 18
    video, audio = torch.randn(1, 20, 64), torch.randn(1, seconds, configs.TRANSFORMER["audio_in_channels"])
    masks = torch.ones(1, 20, 1), torch.ones(1, seconds, 1)
    masks[0][:, :8], masks[1][:, :7] = 0.0, 0.3
    words = EncodedPrompt(torch.randn(1, 6, configs.VIDEO_WIDTH), torch.randn(1, 6, configs.AUDIO_WIDTH))
    coords = grid.bounds(5, 2, 2), audio_bounds(seconds)
    streams = [
        Modality(
            x.unflatten(1, (-1, cells)),
            0.7 * mask.view(1, -1, cells)[..., 0],
            torch.tensor([0.7]),
            tokens,
            place,
        )
        for x, mask, cells, tokens, place in zip(
            (video, audio), masks, (4, 1), (words.video, words.audio), coords, strict=True
        )
    ]
    for linked in (True, False):
        fast = Forward(model, compiled=False)(streams[0], streams[1], torch.tensor([float(linked)]))
        tracks = {"video": Track(video, masks[0], coords[0]), "audio": Track(audio, masks[1], coords[1])}
        other = LTX2VideoTransformer3DModel(**small)
        other.load_state_dict(model.state_dict())
        attach(other)
        positioned = PositionedTracks.of(other, tracks)  # type: ignore[arg-type]
        prediction = Prediction(words, isolated=not linked)
        slow = velocities(other, positioned, {"video": video, "audio": audio}, 0.7, [prediction], ())
        torch.testing.assert_close(fast[0].flatten(1, 2), slow["video"], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(fast[1].flatten(1, 2), slow["audio"], atol=2e-5, rtol=1e-4)


def test_prompts_of_any_length_fill_the_same_number_of_tokens() -> None:
    stack, words = text.stack(), text.tokenizer()
    ids, mask = text.tokens(words, ["", "a red circle moving left", "unknown words " * 40])
    assert mask.sum(1).tolist() == [1, 6, first.SEQUENCE]
    assert bool((mask.diff(dim=1) >= 0).all()), "padding stands on the left"
    video, audio = text.encode(stack, ids, mask)
    assert video.shape == (3, first.SEQUENCE, configs.VIDEO_WIDTH)
    assert audio.shape == (3, first.SEQUENCE, configs.AUDIO_WIDTH)
    torch.testing.assert_close(video[0, 6:], video[1, 6:], msg="what follows the words is the same for all")


def test_the_video_follows_what_the_first_family_learns_later(old: first_sampler.Family) -> None:
    width = configs.VIDEO_WIDTH
    code = caption.Code(torch.randn(width), torch.randn(width, width))
    later: Any = type(old.transformer)(**first.SHALLOW_TRANSFORMER)
    for name, value in later.named_parameters():
        value.copy_(dict(old.transformer.named_parameters())[name] + 0.01 * torch.randn(value.shape))
    model = warm.transformer(old.transformer, code.basis, code.centre)
    model.audio_proj_in.weight += 1
    follow.added(model, old.transformer, later, code)
    wanted = warm.transformer(later, code.basis, code.centre)
    wanted.audio_proj_in.weight += 1
    for (name, value), other in zip(model.named_parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=1e-4, msg=name)
