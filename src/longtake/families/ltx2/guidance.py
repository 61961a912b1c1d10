"""The guidance of LTX-2: from up to four clean predictions of each modality to the one that is followed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from longtake.families.ltx2.options import Modality
from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, Tokens, velocities

UNGUIDED = Modality(cfg=1, stg=0, modality=1, rescale=0)


def guided(
    conditional: Tensor, negative: Tensor | None, disturbed: Tensor | None, isolated: Tensor | None, scales: Modality
) -> Tensor:
    """The guided clean prediction [1, n, C]; a prediction whose scale is off may be None.

    g = c + (cfg - 1)(c - u) + stg (c - s) + (modality - 1)(c - i), then g *= rescale std(c) / std(g) + 1 - rescale,
    over all tokens and channels: c for the prompt, u for the negative prompt, s with disturbed self-attention, i with
    the modalities isolated. Source: LTX-2; the rescaling: Lin et al. 2024.
    """
    weighed = ((scales.cfg - 1, negative), (scales.stg, disturbed), (scales.modality - 1, isolated))
    out = conditional
    for weight, other in weighed:
        if weight and other is not None:
            out = out + weight * (conditional - other)
    if scales.rescale and out is not conditional:
        out = out * (scales.rescale * conditional.std() / out.std() + 1 - scales.rescale)
    return out


@dataclass(frozen=True)
class Guide:
    """The guidance of one LTX-2 pass: the prompts, each modality's scales, the blocks that are disturbed, and how many
    predictions the device makes at once."""

    positive: EncodedPrompt
    negative: EncodedPrompt | None
    scales: Mapping[Stream, Modality]
    blocks: Sequence[int]
    at_once: int = 4

    def predictions(self, streams: Sequence[Stream]) -> dict[str, Prediction]:
        """The predictions that the scales of these modalities need, and no other; the prompt's is always one.

        Where there is no audio, nothing is isolated: that prediction would be the prompt's own.
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


def predict(
    transformer: Any,
    tracks: Mapping[Stream, Track],
    positioned: PositionedTracks,
    guide: Guide,
    tokens: Tokens,
    sigma: float,
) -> dict[Stream, Tensor]:
    """The guided clean prediction x0 [1, n, C] of each modality at noise level `sigma`, given tokens blended in.

    Per prediction and token x0 = x - mask sigma v; guidance is in x0; then x0 mask + clean (1 - mask).
    """
    predictions = guide.predictions(list(tracks))
    names = list(predictions)
    made: dict[Stream, list[Tensor]] = {stream: [] for stream in tracks}
    for first in range(0, len(names), guide.at_once):
        some = [predictions[name] for name in names[first : first + guide.at_once]]
        for stream, velocity in velocities(transformer, positioned, tokens, sigma, some, guide.blocks).items():
            made[stream] += (tokens[stream] - velocity * tracks[stream].mask * sigma).split(1)
    followed: dict[Stream, Tensor] = {}
    for stream, track in tracks.items():
        x0 = dict(zip(names, made[stream], strict=True))
        others = x0.get("negative"), x0.get("disturbed"), x0.get("isolated")
        one = guided(x0["conditional"], *others, guide.scales[stream])
        followed[stream] = torch.lerp(track.clean, one, track.mask)
    return followed
