"""The embedded LTX-Video model as a teacher of the video stream.

The video stream learns a mean of two velocities: the true one, and the one that the LTX-Video model computes for the
same window. That model has seen many more clips, and the video stream has layers of the same kind, so it can learn
much of what the model computes. The gradients have less noise than with the true velocities alone.
"""

from dataclasses import replace

import torch

from recipes.tiny import sampler
from recipes.tiny.forward import Forward
from recipes.tiny_av.windows import Batch


class Teacher:
    """The embedded LTX-Video model. Its weights do not change.

    share: the share of its velocities in the targets.
    """

    def __init__(self, share: float, device: torch.device, compiled: bool = True) -> None:
        family = sampler.load()
        self.share = share
        self.text_encoder = family.text_encoder.requires_grad_(False).to(device).bfloat16()
        self.forward = Forward(family.transformer.requires_grad_(False).to(device).bfloat16(), compiled)

    @torch.no_grad()
    def taught(self, batch: Batch) -> Batch:
        """Returns the batch with the mean of the true velocities and the teacher's as the video's targets.

        Windows that end with known latents keep the true velocities. The teacher has learnt another layout for windows
        that lead to a clip, and knows no end image of another clip.
        """
        video = batch.video
        ids, mask = in_front(batch.ids, batch.mask)
        captions = self.text_encoder(ids, attention_mask=mask)[0]
        made = self.forward(video.x.bfloat16(), video.sigmas, captions, mask, video.coords[..., 0]).float()
        share = torch.where(video.sigmas[:, -1] < video.level, 0.0, self.share)
        return replace(batch, video=replace(video, target=torch.lerp(video.target, made, share.view(-1, 1, 1, 1))))


def in_front(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns token ids and their mask `[B, L]`, with the padding moved from the left to the right."""
    order = mask.argsort(dim=1, descending=True, stable=True)
    return ids.gather(1, order), mask.gather(1, order)
