"""The guidance of picture and sound: only what the scales need, each in its own direction."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longtake.families.ltx2.guidance import UNGUIDED, Guide, guided
from longtake.families.ltx2.options import GuidanceScales
from longtake.models.audiovisual import EncodedPrompt

OFF = UNGUIDED
WORDS = EncodedPrompt(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
C, U, S, I = torch.randn(4, 1, 6, 3).unbind()  # noqa: E741


def guide(video: GuidanceScales, audio: GuidanceScales = OFF, negative: EncodedPrompt | None = WORDS) -> Guide:
    return Guide(None, WORDS, negative, {"video": video, "audio": audio}, (1,))


def modality(cfg: float = 1, stg: float = 0, modality: float = 1, rescale: float = 0) -> GuidanceScales:
    return GuidanceScales(cfg=cfg, stg=stg, modality=modality, rescale=rescale)


@pytest.mark.parametrize(
    ("scales", "names"),
    [
        (OFF, ["conditional"]),
        (modality(cfg=3), ["conditional", "negative"]),
        (modality(stg=1), ["conditional", "disturbed"]),
        (modality(modality=3), ["conditional", "isolated"]),
        (modality(3, 1, 3, 0.85), ["conditional", "negative", "disturbed", "isolated"]),
    ],
)
def test_only_needed_predictions_are_made(scales: GuidanceScales, names: list[str]) -> None:
    assert list(guide(scales).predictions(["video", "audio"])) == names
    assert list(guide(OFF, scales).predictions(["video", "audio"])) == names


def test_each_modality_is_disturbed_for_itself() -> None:
    predictions = guide(modality(stg=1), modality(cfg=7)).predictions(["video", "audio"])
    assert predictions["disturbed"].disturbed == {"video"}
    assert not predictions["disturbed"].isolated
    assert guide(modality(stg=1), modality(stg=2)).predictions(["video", "audio"])["disturbed"].disturbed == {
        "video",
        "audio",
    }


def test_without_sound_nothing_is_isolated() -> None:
    assert list(guide(modality(modality=3)).predictions(["video"])) == ["conditional"]


def test_a_classifier_free_scale_needs_a_negative_prompt() -> None:
    with pytest.raises(ValueError, match="needs a negative prompt"):
        guide(modality(cfg=3), negative=None).predictions(["video"])


def test_scales_that_are_off_follow_the_prompt() -> None:
    assert torch.equal(guided(C, U, S, I, OFF), C)
    assert torch.allclose(guided(C, U, S, I, modality(rescale=0.7)), C)


@given(st.floats(1, 20), st.floats(0, 20), st.floats(0, 10))
def test_each_scale_moves_away_from_its_own_prediction(cfg: float, stg: float, mod: float) -> None:
    wanted = C + (cfg - 1) * (C - U) + stg * (C - S) + (mod - 1) * (C - I)
    assert torch.allclose(guided(C, U, S, I, modality(cfg, stg, mod)), wanted, rtol=1e-4, atol=1e-4)


def test_full_rescaling_gives_the_prompts_spread() -> None:
    out = guided(C, U, S, I, modality(7, 2, 3, rescale=1))
    assert out.std() == pytest.approx(float(C.std()), rel=1e-5)
