"""The guidance of LTX-2: combines up to four predictions of the clean tokens into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltx2.options import GuidanceScales, needed_predictions
from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, Tokens, velocities
from longtake.models.replicas import Replicas
from longtake.sampling.deviation import divisor

UNGUIDED = GuidanceScales()
"""The scales that switch all guidance off."""


@dataclass(frozen=True)
class Guide:
    """A transformer with the prompts and the guidance scales of one pass.

    `replicas`: the transformer and its copies on other devices, which share out the predictions. It is diffusers'
        LTX2VideoTransformer3DModel with the forward pass of `models.audiovisual`.
    `positive`: the encoded prompt.
    `negative`: the encoded negative prompt. It may be None if classifier-free guidance is off in all `scales`.
    `scales`: the guidance scales of each modality.
    `blocks`: the numbers (from 0) of the transformer blocks in which spatio-temporal guidance (STG) disturbs the
        self-attention: each token then attends to itself alone.
    `at_once`: the largest number of predictions in one evaluation of the transformer, 1 to 4. A smaller number needs
        less memory.
    """

    replicas: Replicas
    positive: EncodedPrompt
    negative: EncodedPrompt | None
    scales: Mapping[Stream, GuidanceScales]
    blocks: Sequence[int]
    at_once: int = 4

    def positioned(self, tracks: Mapping[Stream, Track]) -> tuple[PositionedTracks, ...]:
        """Returns the tracks with the position embeddings of their tokens, on each device."""
        return self.replicas.everywhere(PositionedTracks.of(self.replicas.transformer, tracks))

    def predictions(self, streams: Sequence[Stream]) -> dict[str, Prediction]:
        """Returns the predictions that the guidance of the modalities `streams` (video, audio or both) needs, by name
        (see `needed_predictions`), with the conditions under which the transformer makes each one.

        Raises ValueError if the negative prompt is needed and there is none.
        """
        disturbed = frozenset(stream for stream in streams if self.scales[stream].stg)
        conditions = {
            "prompt": Prediction(self.positive),
            "disturbed": Prediction(self.positive, disturbed),
            "isolated": Prediction(self.positive, isolated=True),
        }
        if self.negative is not None:
            conditions["negative"] = Prediction(self.negative)
        names = needed_predictions([self.scales[stream] for stream in streams])
        if not set(names) <= conditions.keys():
            raise ValueError("a classifier-free scale other than 1 needs a negative prompt")
        return {name: conditions[name] for name in names}


def guided(
    conditional: Tensor,
    negative: Tensor | None,
    disturbed: Tensor | None,
    isolated: Tensor | None,
    scales: GuidanceScales,
) -> Tensor:
    """Returns the guided prediction [1, n, C] of the clean tokens of one modality, combined from the given predictions.

    `conditional`: the prediction for the prompt, [1, n, C] like the others.
    `negative`: the prediction for the negative prompt. It may be None if `scales.cfg` is off.
    `disturbed`: the prediction with self-attention switched off in some blocks. It may be None if `scales.stg` is off.
    `isolated`: the prediction without attention between the modalities. It may be None if `scales.modality` is off or
        there is one modality.

    The result is computed in two steps, where std is over all tokens and channels. The term of a prediction that is
    None is left out.
    1. g = conditional + (cfg - 1) * (conditional - negative) + stg * (conditional - disturbed)
           + (modality - 1) * (conditional - isolated)
    2. result = g * (rescale * std(conditional) / std(g) + 1 - rescale)

    Sources: LTX-2; for the rescaling Lin et al. 2024.
    """
    followed = conditional
    for weight, other in ((scales.cfg - 1, negative), (scales.stg, disturbed), (scales.modality - 1, isolated)):
        if weight and other is not None:
            followed = followed + weight * (conditional - other)
    if scales.rescale and followed is not conditional:
        followed = followed * (scales.rescale * conditional.std() / divisor(followed.std()) + 1 - scales.rescale)
    return followed


def predict(
    guide: Guide,
    tracks: Mapping[Stream, Track],
    positioned: Sequence[PositionedTracks],
    tokens: Tokens,
    sigma: float,
) -> dict[Stream, Tensor]:
    """Returns the guided prediction of the clean tokens, [1, n, C] for each modality.

    `guide`: the transformer with the prompts and the guidance scales.
    `tracks`: the conditioning and the mask of the tokens, for each modality.
    `positioned`: the position embeddings of the tracks, on each device (see `Guide.positioned`).
    `tokens`: the noisy tokens, [1, n, C] for each modality.
    `sigma`: the noise level of the step.

    The steps for each modality, with `mask` and `clean` of its track:
    1. The transformer returns a velocity for each prediction that guidance needs. Several devices share out the
       predictions. The predicted clean tokens are x0 = tokens - mask * sigma * velocity.
    2. `guided` combines the x0 of all predictions into one.
    3. The result is mask * x0 + (1 - mask) * clean.
    """
    needed = guide.predictions(list(tracks))
    batches = shared_out(list(needed), guide.replicas.count, guide.at_once)

    def evaluated(transformer: Any, item: tuple[PositionedTracks, Tokens, list[Prediction]]) -> dict[Stream, Tensor]:
        own, noisy, predictions = item
        return velocities(transformer, own, noisy, sigma, predictions, guide.blocks)

    items = [
        (positioned[index % len(positioned)], tokens, [needed[name] for name in batch])
        for index, batch in enumerate(batches)
    ]
    x0: dict[Stream, dict[str, Tensor]] = {stream: {} for stream in tracks}
    for batch, found in zip(batches, guide.replicas.run(evaluated, items), strict=True):
        for stream, velocity in found.items():
            made = (tokens[stream] - velocity * tracks[stream].mask * sigma).split(1)
            x0[stream] |= zip(batch, made, strict=True)
    followed: dict[Stream, Tensor] = {}
    for stream, track in tracks.items():
        own = x0[stream]
        others = own.get("negative"), own.get("disturbed"), own.get("isolated")
        followed[stream] = torch.lerp(track.clean, guided(own["prompt"], *others, guide.scales[stream]), track.mask)
    return followed


def shared_out(names: Sequence[str], devices: int, at_once: int) -> list[list[str]]:
    """Returns the batches in which predictions are made: batch i is for device i modulo `devices`.

    `names`: the predictions. Each batch has them in their order.
    `at_once`: the largest number of predictions in a batch.
    """
    rounds = (names[first : first + devices * at_once] for first in range(0, len(names), devices * at_once))
    return [list(some[device::devices]) for some in rounds for device in range(min(devices, len(some)))]
