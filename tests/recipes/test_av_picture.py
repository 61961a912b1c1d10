"""The second family's autoencoder and upsampler are at home in the first family's latents."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.pipelines.ltx2.latent_upsampler import LTX2LatentUpsamplerModel

from recipes.tiny import configs as first
from recipes.tiny import sampler as first_sampler
from recipes.tiny.render import render
from recipes.tiny.world import sample
from recipes.tiny_av import configs, picture


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    if not (first.WEIGHTS / "model_index.json").exists():
        pytest.skip("the first family's weights are not here")
    torch.set_num_threads(1)
    with torch.no_grad():
        yield


def test_the_decoder_is_the_first_familys() -> None:
    old = picture.teacher()
    new = picture.start(old)
    latents = torch.randn(1, 64, 3, 4, 4)
    torch.testing.assert_close(new.decoder(latents), old.decoder(latents), atol=1e-5, rtol=1e-5)
    assert new.latents_std.equal(old.latents_std)


def test_the_upsampler_is_the_first_familys() -> None:
    old: Any = first_sampler.load().upsampler
    new = LTX2LatentUpsamplerModel(**configs.UPSAMPLER)
    new.load_state_dict(old.state_dict())
    latents = torch.randn(1, 64, 2, 4, 4)
    assert new(latents).equal(old(latents))


def test_doubled_channels_begin_as_equals() -> None:
    old = picture.teacher()
    new = picture.start(old).encoder
    clip = render([sample(3, num_frames=5)])
    patches = clip.unflatten(4, (16, 4)).unflatten(3, (16, 4)).permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)
    narrow, wide = old.encoder.conv_in(patches), new.conv_in(patches, causal=True)
    narrow, wide = old.encoder.down_blocks[0].resnets[0](narrow), new.down_blocks[0].resnets[0](wide, causal=True)
    torch.testing.assert_close(wide, narrow.repeat_interleave(2, dim=1), atol=1e-4, rtol=1e-4)


def test_steps_see_other_clips_of_one_size() -> None:
    seen = [picture.scenes_of_step(step) for step in range(40)]
    assert len({scenes[0].texture_seed for scenes, _ in seen}) == 40
    for scenes, scale in seen:
        assert len({(s.width, s.height, s.num_frames) for s in scenes}) == 1
        assert scale in (1, 2)
