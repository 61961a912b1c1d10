"""The guidance of LTX-2: combines up to four predictions of the clean tokens into one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltx2.options import GuidanceScales
from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, Tokens, velocities
from longtake.sampling.deviation import divisor

UNGUIDED = GuidanceScales(cfg=1, stg=0, modality=1, rescale=0)
"""The scales that switch all guidance off."""


@dataclass(frozen=True)
class Guide:
    """A transformer with the prompts and the guidance scales of one pass (run through the sampling steps).

    `transformer`: diffusers' LTX2VideoTransformer3DModel with the forward pass of `models.audiovisual`.
    `positive`: the encoded prompt.
    `negative`: the encoded negative prompt. It may be None if classifier-free guidance is off in all `scales`.
    `scales`: the guidance scales of each modality.
    `blocks`: the numbers (from 0) of the transformer blocks in which spatio-temporal guidance (STG) disturbs the
        self-attention: each token then attends to itself alone.
    `at_once`: the largest number of predictions in one evaluation of the transformer, 1 to 4. A smaller number needs
        less memory.
    """

    transformer: Any
    positive: EncodedPrompt
    negative: EncodedPrompt | None
    scales: Mapping[Stream, GuidanceScales]
    blocks: Sequence[int]
    at_once: int = 4

    def predictions(self, streams: Sequence[Stream]) -> dict[str, Prediction]:
        """Returns what the transformer must predict for the guidance of the modalities `streams` (video, audio or
        both).

        The keys are the predictions' names, and the values say under which conditions each one is made:
        - `conditional`: for the positive prompt. It is always present.
        - `negative`: for the negative prompt. It is present if the `cfg` scale of a modality is not 1.
        - `disturbed`: for the positive prompt, with disturbed self-attention in the modalities whose `stg` scale is not
          0. It is present if there is such a modality.
        - `isolated`: for the positive prompt, without attention between the modalities. It is present if there are two
          modalities and the `modality` scale of one is not 1.

        Raises ValueError if the negative prompt is needed and there is none.
        """
        scales = [self.scales[stream] for stream in streams]
        needed = {"conditional": Prediction(self.positive)}
        if any(scale.cfg != 1 for scale in scales):
            if self.negative is None:
                raise ValueError("a classifier-free scale other than 1 needs a negative prompt")
            needed["negative"] = Prediction(self.negative)
        disturbed = frozenset(stream for stream in streams if self.scales[stream].stg)
        if disturbed:
            needed["disturbed"] = Prediction(self.positive, disturbed)
        if len(streams) > 1 and any(scale.modality != 1 for scale in scales):
            needed["isolated"] = Prediction(self.positive, isolated=True)
        return needed


def guided(
    conditional: Tensor,
    negative: Tensor | None,
    disturbed: Tensor | None,
    isolated: Tensor | None,
    scales: GuidanceScales,
) -> Tensor:
    """Returns the guided prediction [1, n, C] of the clean tokens of one modality (video or audio), combined from the
    given predictions.

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
    guide: Guide, tracks: Mapping[Stream, Track], positioned: PositionedTracks, tokens: Tokens, sigma: float
) -> dict[Stream, Tensor]:
    """Returns the guided prediction of the clean tokens, [1, n, C] for each modality (video and audio).

    `guide`: the transformer with the prompts and the guidance scales.
    `tracks`: the conditioning and the mask of the tokens, for each modality.
    `positioned`: the position embeddings of the tracks.
    `tokens`: the noisy tokens, [1, n, C] for each modality.
    `sigma`: the noise level of the step.

    The steps for each modality, with `mask` and `clean` of its track:
    1. The transformer returns a velocity for each prediction that guidance needs. The predicted clean tokens are
       x0 = tokens - mask * sigma * velocity.
    2. `guided` combines the x0 of all predictions into one.
    3. The result is mask * x0 + (1 - mask) * clean.
    """
    needed = guide.predictions(list(tracks))
    names = list(needed)
    predicted: dict[Stream, list[Tensor]] = {stream: [] for stream in tracks}
    for first in range(0, len(names), guide.at_once):
        some = [needed[name] for name in names[first : first + guide.at_once]]
        for stream, velocity in velocities(guide.transformer, positioned, tokens, sigma, some, guide.blocks).items():
            predicted[stream] += (tokens[stream] - velocity * tracks[stream].mask * sigma).split(1)
    followed: dict[Stream, Tensor] = {}
    for stream, track in tracks.items():
        x0 = dict(zip(names, predicted[stream], strict=True))
        others = x0.get("negative"), x0.get("disturbed"), x0.get("isolated")
        followed[stream] = torch.lerp(track.clean, guided(x0["conditional"], *others, guide.scales[stream]), track.mask)
    return followed
