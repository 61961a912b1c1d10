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
    """A transformer with the prompts and the guidance scales of one pass.

    `transformer`: the model, with the forward pass of `models.audiovisual`.
    `positive`, `negative`: the encoded prompts. `negative` may be None if no scale needs it.
    `scales`: the guidance scales of each modality.
    `blocks`: the numbers of the transformer blocks that spatio-temporal guidance (STG) disturbs.
    `at_once`: the largest number of predictions in one evaluation of the model, 1 to 4. It limits the memory.
    """

    transformer: Any
    positive: EncodedPrompt
    negative: EncodedPrompt | None
    scales: Mapping[Stream, GuidanceScales]
    blocks: Sequence[int]
    at_once: int = 4

    def predictions(self, streams: Sequence[Stream]) -> dict[str, Prediction]:
        """Returns the predictions that the guidance scales of the modalities `streams` need, by name.

        - `conditional`, for the positive prompt, is always present.
        - `negative` is for the negative prompt.
        - `disturbed` has disturbed self-attention.
        - `isolated` has no attention between the modalities. It is left out for a single modality, where it would equal
          `conditional`.

        Raises ValueError if a scale needs a negative prompt and there is none.
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
    """Combines the predictions of one modality's clean tokens, each [1, n, C], into the guided prediction [1, n, C].

    A prediction may be None if its scale is off. c, n, d and t stand for the conditional, negative, disturbed and
    isolated predictions:
    1. g = c + (cfg - 1)(c - n) + stg (c - d) + (modality - 1)(c - t)
    2. The result is g (rescale std(c) / std(g) + 1 - rescale), where std is over all tokens and channels.

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
    """Predicts the clean tokens [1, n, C] of each modality from the noisy `tokens` [1, n, C] at noise level `sigma`.

    `positioned` has the position embeddings of the `tracks`. The steps are:
    1. Each prediction is x0 = tokens - mask sigma v, where v is the velocity that the transformer returns.
    2. Guidance combines the predictions into one x0.
    3. The result is mask x0 + (1 - mask) clean. `mask` and `clean` are those of the track.
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
