"""The loaded LTX-2 model, and the function that loads it."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from longtake.errors import BadCheckpoint
from longtake.families.ltx2.tracks import Track
from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, Stream, attach, velocities
from longtake.models.audiovisual_block import block_forward, with_varying_sizes
from longtake.models.compiled import BlockForward
from longtake.models.gemma import GemmaTextEncoder
from longtake.models.parts import INSTALLED, LoadedModel, PartSource, load_parts
from longtake.models.registry import LTX2Card
from longtake.settings import Settings
from longtake.video import OnProgress, ignore_progress


@dataclass(frozen=True)
class LTX2Model(LoadedModel[LTX2Card, GemmaTextEncoder]):
    """A loaded LTX-2 model in eval mode.

    `audio_vae`: diffusers' AutoencoderKLLTX2Audio.
    `vocoder`: diffusers' LTX2VocoderWithBWE.
    """

    audio_vae: Any
    vocoder: Any


def load(
    card: LTX2Card,
    settings: Settings,
    on_progress: OnProgress = ignore_progress,
    source: PartSource = INSTALLED,
) -> LTX2Model:
    """Loads the model that the model card `card` describes onto the device that the setting `device` names.

    `on_progress`: the callback that receives the progress of loading.
    `source`: where the model's parts come from; by default, files on this machine.

    Raises BadCheckpoint if a part is missing, is damaged, or does not fit the other parts. Raises NotSupported if the
    device is not available.
    """
    loaded = load_parts(card, settings, on_progress, source, BLOCK_FORWARD, prepare_transformer=attach)
    parts = loaded.parts
    _check_text_parts(card, parts["text_encoder"], parts["connectors"], parts["transformer"])
    text = loaded.text_encoder(GemmaTextEncoder, card, settings)
    loaded.compile_blocks(settings, partial(_evaluate, card), on_progress)
    return LTX2Model.of(card, text, loaded, audio_vae=parts["audio_vae"], vocoder=parts["vocoder"])


BLOCK_FORWARD = BlockForward(block_forward, with_varying_sizes)
"""Two functions with which torch compiles the transformer's blocks (see `models.compiled`). The first computes a block.
The second tells torch which sizes of a block's inputs differ between requests."""


def _evaluate(card: LTX2Card, transformer: Any, device: torch.device, dtype: torch.dtype) -> None:
    """Evaluates the transformer on a few tokens, so that its blocks are compiled before the first request: once with
    all predictions that guidance usually combines, and once with a single one.

    The self-attention is switched off in the same blocks as in requests. Others may have weights in another dtype, and
    then need other code.
    """
    config, tracks = transformer.config, few_tracks(transformer, device)
    widths = config.cross_attention_dim, config.audio_cross_attention_dim
    prompt = EncodedPrompt(*(torch.zeros(1, card.prompt_tokens, width, device=device, dtype=dtype) for width in widths))
    disturbed = Prediction(prompt, frozenset({"video"}))
    usual = [Prediction(prompt), Prediction(prompt), disturbed, Prediction(prompt, isolated=True)]
    positioned = PositionedTracks.of(transformer, tracks)
    tokens = {stream: track.clean for stream, track in tracks.items()}
    for predictions in (usual, usual[:1]):
        velocities(transformer, positioned, tokens, 0.5, predictions, card.stg_blocks)


def few_tracks(transformer: Any, device: torch.device) -> dict[Stream, Track]:
    """Returns a few tokens of each modality, for trial evaluations of the transformer. The first one has no noise, as
    the tokens of a context."""
    config = transformer.config
    channels: dict[Stream, int] = {"video": config.in_channels, "audio": config.audio_in_channels}
    tracks: dict[Stream, Track] = {}
    for (stream, width), count, axes in zip(channels.items(), (64, 48), (3, 1), strict=True):
        mask = torch.ones(1, count, 1, device=device)
        mask[:, 0] = 0
        bounds = torch.zeros(1, axes, count, 2, device=device)
        tracks[stream] = Track(torch.zeros(1, count, width, device=device), mask, bounds)
    return tracks


def _check_text_parts(card: LTX2Card, encoder: Any, connectors: Any, transformer: Any) -> None:
    """Raises BadCheckpoint if the text encoder, the connectors (the layers between it and the transformer) and the
    transformer do not fit each other.

    They do not fit in these cases:
    - The connectors read another number or width of hidden states than the text encoder makes.
    - The connectors make tokens of another width than the transformer reads.
    - The card's number of prompt tokens is no multiple of the connectors' number of registers (learned tokens that take
      the place of padding).
    """
    gemma, reads, needs = encoder.config.get_text_config(), connectors.config, transformer.config
    found = (gemma.hidden_size, gemma.num_hidden_layers + 1)
    wanted = (reads.caption_channels, reads.text_proj_in_factor)
    if found != wanted:
        raise BadCheckpoint(
            f"The text encoder of {card.name} has {found[1]} hidden states of {found[0]} channels; its connectors read "
            f"{wanted[1]} of {wanted[0]}."
        )
    for side, width in (("video", needs.cross_attention_dim), ("audio", needs.audio_cross_attention_dim)):
        registers = reads[f"{side}_connector_num_learnable_registers"]
        if reads[f"{side}_hidden_dim"] != width:
            raise BadCheckpoint(
                f"The connectors of {card.name} make {side} tokens of {reads[f'{side}_hidden_dim']} channels; its "
                f"transformer reads {width}."
            )
        if registers and card.prompt_tokens % registers:
            raise BadCheckpoint(
                f"The connectors of {card.name} have {registers} registers, of which {card.prompt_tokens} prompt "
                "tokens are no multiple."
            )
