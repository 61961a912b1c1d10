"""What each parameter of a request does to what LTX-2.3 generates, on the embedded model."""

from collections.abc import Callable
from typing import Any

import pytest

from longtake.families.ltx2.model import LTX2Model
from tests.families.ltx2.generating import NEW, SCENE, Generated, error, film_of, generated, hurried, planned

VISIBLE, AUDIBLE = 0.05 / 255, 1e-3
"""Mean differences of frames (0..1) and of sound (-1..1) above which a parameter has an effect."""

SILENT = {"generate_audio": False}

Generate = Callable[[dict[str, Any]], Generated]


@pytest.fixture(scope="module")
def generate(sounding: LTX2Model) -> Generate:
    """Generates by the fields of a request, each request once."""
    film, cache = film_of(SCENE), dict[str, Generated]()

    def cached(fields: dict[str, Any]) -> Generated:
        key = repr(sorted(fields.items()))
        if key not in cache:
            cache[key] = generated(sounding, hurried(planned(film, **fields)), film)
        return cache[key]

    return cached


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "prompt": ({}, {"prompt": "a green square moving up over a white plain background"}),
    "negative_prompt": ({"video_cfg_scale": 9}, {"video_cfg_scale": 9, "negative_prompt": "a red circle"}),
    "seed": ({}, {"seed": 2}),
    "num_inference_steps": ({}, {"num_inference_steps": 12}),
    "scheduler": ({}, {"scheduler": "linear_quadratic"}),
    "use_restart_sampling": ({}, {"use_restart_sampling": True}),
    "gradient_estimation_gamma": ({}, {"gradient_estimation_gamma": 2}),
    "acceleration": ({}, {"acceleration": "full"}),
    "use_multiscale": ({}, {"use_multiscale": True}),
    "num_context_frames": ({}, {"num_context_frames": 9}),
    "video_strength": ({}, {"video_strength": 0.3}),
    "video_cfg_scale": ({}, {"video_cfg_scale": 9}),
    "video_stg_scale": ({}, {"video_stg_scale": 4}),
    "video_rescaling_scale": (
        {"video_cfg_scale": 9, "video_rescaling_scale": 0},
        {"video_cfg_scale": 9, "video_rescaling_scale": 1},
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_parameters_change_the_frames(generate: Generate, name: str) -> None:
    one, other = (generate(SILENT | fields).frames[-NEW:] for fields in CHANGES[name])
    assert (one - other).abs().mean() > VISIBLE


def test_the_modality_scale_of_the_video_changes_the_frames(generate: Generate) -> None:
    """In the small model, sound changes little of the video: the object, and hardly the ground."""
    one, other = (generate(fields).frames[-NEW:] for fields in ({}, {"video_modality_scale": 10}))
    assert (one - other).abs().max() > 1 / 255


SOUND_CHANGES: dict[str, float] = {
    "audio_cfg_scale": 12,
    "audio_stg_scale": 6,
    "audio_modality_scale": 9,
    "audio_strength": 0.3,
}


@pytest.mark.parametrize("name", SOUND_CHANGES)
def test_parameters_change_the_sound(generate: Generate, name: str) -> None:
    one, other = generate({}).new_sound, generate({name: SOUND_CHANGES[name]}).new_sound
    assert (one - other).abs().mean() > AUDIBLE


def test_guidance_of_one_modality_reaches_the_other_only_through_it(generate: Generate) -> None:
    """STG of the sound disturbs only the sound's attention, so it changes the frames less than STG of the video."""
    base = generate({}).frames
    by_sound, by_video = (error(generate({name: 6}).frames, base) for name in ("audio_stg_scale", "video_stg_scale"))
    assert by_sound < by_video


def test_without_sound_none_is_generated(generate: Generate) -> None:
    assert generate(SILENT).sound is None
    assert generate({}).sound is not None
