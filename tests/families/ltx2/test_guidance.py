"""The guidance of LTX-2: only the predictions that are needed, each scale in its own direction."""

import pytest
import torch

from longtake.families.ltx2.guidance import UNGUIDED, Guide, guided, shared_out
from longtake.families.ltx2.options import GuidanceScales
from longtake.models.audiovisual import EncodedPrompt
from longtake.models.replicas import Replicas

OFF = UNGUIDED
WORDS = EncodedPrompt(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
C, U, S, I = torch.randn(4, 1, 6, 3).unbind()  # noqa: E741


def guide(video: GuidanceScales, audio: GuidanceScales = OFF, negative: EncodedPrompt | None = WORDS) -> Guide:
    return Guide(Replicas(None), WORDS, negative, {"video": video, "audio": audio}, (1,))


def scales_of(cfg: float = 1, stg: float = 0, modality: float = 1, rescale: float = 0) -> GuidanceScales:
    return GuidanceScales(cfg=cfg, stg=stg, modality=modality, rescale=rescale)


@pytest.mark.parametrize(
    ("scales", "names"),
    [
        (OFF, ["prompt"]),
        (scales_of(cfg=3), ["prompt", "negative"]),
        (scales_of(stg=1), ["prompt", "disturbed"]),
        (scales_of(modality=3), ["prompt", "isolated"]),
        (scales_of(3, 1, 3, 0.85), ["prompt", "negative", "disturbed", "isolated"]),
    ],
)
def test_only_needed_predictions_are_made(scales: GuidanceScales, names: list[str]) -> None:
    assert list(guide(scales).predictions(["video", "audio"])) == names
    assert list(guide(OFF, scales).predictions(["video", "audio"])) == names


def test_each_modality_is_disturbed_for_itself() -> None:
    predictions = guide(scales_of(stg=1), scales_of(cfg=7)).predictions(["video", "audio"])
    assert predictions["disturbed"].disturbed == {"video"}
    assert not predictions["disturbed"].isolated
    assert guide(scales_of(stg=1), scales_of(stg=2)).predictions(["video", "audio"])["disturbed"].disturbed == {
        "video",
        "audio",
    }


def test_without_sound_nothing_is_isolated() -> None:
    assert list(guide(scales_of(modality=3)).predictions(["video"])) == ["prompt"]


def test_a_classifier_free_scale_needs_a_negative_prompt() -> None:
    with pytest.raises(ValueError, match="needs a negative prompt"):
        guide(scales_of(cfg=3), negative=None).predictions(["video"])


def test_scales_that_are_off_follow_the_prompt() -> None:
    assert torch.equal(guided(C, U, S, I, OFF), C)
    assert torch.allclose(guided(C, U, S, I, scales_of(rescale=0.7)), C)


@pytest.mark.parametrize(
    ("scales", "wanted"),
    [
        (scales_of(cfg=3), 2.0),
        (scales_of(stg=2), 1.5),
        (scales_of(modality=2), 1.75),
        (scales_of(cfg=3, stg=2, modality=2), 3.25),
    ],
)
def test_each_scale_moves_away_from_its_own_prediction(scales: GuidanceScales, wanted: float) -> None:
    conditional, negative, disturbed, isolated = (torch.full((1, 2, 3), value) for value in (1.0, 0.5, 0.75, 0.25))
    assert torch.equal(guided(conditional, negative, disturbed, isolated, scales), torch.full((1, 2, 3), wanted))


def test_half_rescaling_goes_half_way_to_the_prompts_spread() -> None:
    conditional, negative = torch.tensor([[[-1.0, 1.0]]]), torch.zeros(1, 1, 2)
    # The guided prediction is 3 times the conditional one; half of the way back is 3 * (0.5 / 3 + 0.5) = 2 times.
    out = guided(conditional, negative, None, None, scales_of(cfg=3, rescale=0.5))
    assert out.flatten().tolist() == pytest.approx([-2, 2])


def test_full_rescaling_gives_the_prompts_spread() -> None:
    out = guided(C, U, S, I, scales_of(7, 2, 3, rescale=1))
    assert out.std() == pytest.approx(float(C.std()), rel=1e-5)


def test_a_flat_prediction_is_rescaled_to_a_number() -> None:
    flat = torch.full_like(C, 0.5)
    assert guided(flat, flat - 1, None, None, scales_of(cfg=3, rescale=0.7)).isfinite().all()


def test_predictions_are_shared_out_and_stay_in_their_order() -> None:
    four = ["prompt", "negative", "disturbed", "isolated"]
    numbers = {
        (devices, at_once): [[four.index(name) for name in batch] for batch in shared_out(four, devices, at_once)]
        for devices in (1, 2, 3, 4, 5)
        for at_once in (1, 3, 4)
    }
    assert numbers == {
        (1, 1): [[0], [1], [2], [3]],
        (1, 3): [[0, 1, 2], [3]],
        (1, 4): [[0, 1, 2, 3]],
        (2, 1): [[0], [1], [2], [3]],
        (2, 3): [[0, 2], [1, 3]],
        (2, 4): [[0, 2], [1, 3]],
        (3, 1): [[0], [1], [2], [3]],
        (3, 3): [[0, 3], [1], [2]],
        (3, 4): [[0, 3], [1], [2]],
        **{(devices, at_once): [[0], [1], [2], [3]] for devices in (4, 5) for at_once in (1, 3, 4)},
    }
    assert shared_out(four[:1], 4, 4) == [["prompt"]]
