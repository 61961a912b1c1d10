"""A small LTX-2 model with random weights, and checkpoints of it in both layouts."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTX2Audio, AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel, LTX2TextConnectors, LTX2VocoderWithBWE
from safetensors.torch import save_file
from torch import Tensor, nn

from longtake.models.audiovisual import EncodedPrompt, PositionedTracks, Prediction, velocities
from longtake.models.checkpoints import Checkpoint
from longtake.models.layout_ltx2 import LTX2_LAYOUT
from longtake.models.registry import PartName
from tests.models import small
from tests.models.small_ltx2_configs import (
    AUDIO_VAE,
    CONNECTORS,
    GEMMA_LAYERS,
    GEMMA_WIDTH,
    PUBLISHED,
    PUBLISHED_PREFIXES,
    PUBLISHED_WORDS,
    TRANSFORMER,
    UPSAMPLER,
    VAE,
    VOCODER,
)

CLASSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "transformer": (LTX2VideoTransformer3DModel, TRANSFORMER),
    "vae": (AutoencoderKLLTX2Video, VAE),
    "audio_vae": (AutoencoderKLLTX2Audio, AUDIO_VAE),
    "vocoder": (LTX2VocoderWithBWE, VOCODER),
    "connectors": (LTX2TextConnectors, CONNECTORS),
}


def model(part: str) -> nn.Module:
    """Returns a part of the small model, always with the same weights."""
    cls, config = CLASSES[part]
    return small.seeded(cls, config)


def upsampler() -> nn.Module:
    return small.seeded(LTX2LatentUpsamplerModel, UPSAMPLER | {"use_rational_resampler": False})


def published_names(part: str) -> dict[str, Tensor]:
    """Returns the state of a part under the names of the published file. Independent of the product's renaming."""
    state = model(part).state_dict()
    if part == "vae":
        return {_vae_name(name): tensor for name, tensor in state.items()}
    words = PUBLISHED_WORDS[part]
    return {
        PUBLISHED_PREFIXES[part] + ".".join(words.get(word, word) for word in name.split(".")): tensor
        for name, tensor in state.items()
    }


def _vae_name(name: str) -> str:
    for ours, theirs in (
        ("encoder.mid_block", "encoder.down_blocks.4"),
        ("encoder.down_blocks.0.downsamplers.0", "encoder.down_blocks.1"),
        ("encoder.down_blocks.1.downsamplers.0", "encoder.down_blocks.3"),
        ("encoder.down_blocks.1.resnets", "encoder.down_blocks.2.resnets"),
        ("decoder.up_blocks.1.upsamplers.0", "decoder.up_blocks.3"),
        ("decoder.up_blocks.1.resnets", "decoder.up_blocks.4.resnets"),
        ("decoder.up_blocks.0.upsamplers.0", "decoder.up_blocks.1"),
        ("decoder.up_blocks.0.resnets", "decoder.up_blocks.2.resnets"),
        ("decoder.mid_block", "decoder.up_blocks.0"),
        ("latents_mean", "per_channel_statistics.mean-of-means"),
        ("latents_std", "per_channel_statistics.std-of-means"),
    ):
        if name.startswith(ours):
            name = name.replace(ours, theirs)
            break
    return "vae." + name.replace("resnets", "res_blocks")


def write_single(
    path: Path, config: Mapping[str, Any] | None = PUBLISHED, extra: Mapping[str, Tensor] | None = None
) -> Path:
    """Writes the five parts as a published single file."""
    tensors = {name: tensor for part in CLASSES for name, tensor in published_names(part).items()}
    tensors |= {"vae.per_channel_statistics.mean-of-stds": torch.ones(4), **(extra or {})}
    metadata = None if config is None else {"config": json.dumps(config), "model_version": "2.3.0"}
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, path, metadata)
    return path


def write_upscaler(path: Path) -> Path:
    """Writes the upsampler as a published single file."""
    config = {"_class_name": "LatentUpsampler", **UPSAMPLER, "dims": 3, "spatial_upsample": True, "spatial_scale": 2.0}
    save_file(dict(upsampler().state_dict()), path, {"config": json.dumps(config | {"rational_resampler": False})})
    return path


WORDS = ("a", "red", "blue", "ball", "rolls", "rings", "loudly", "user", "model", "paragraph", "the", "video", "is")
SIGNS = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
IMAGE_SIGNS = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")


def write_text(folder: Path, *, sees: bool = False, speaks: bool = True) -> Path:
    """Writes a Gemma-3 and its tokenizer. `sees`: it has a vision tower; `speaks`: it knows the signs of a chat."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        Gemma3Config,
        Gemma3ForCausalLM,
        Gemma3ForConditionalGeneration,
        Gemma3TextConfig,
        PreTrainedTokenizerFast,
    )

    vocabulary = [*(SIGNS if speaks else SIGNS[:4]), *IMAGE_SIGNS, *WORDS]
    index = {word: place for place, word in enumerate(vocabulary)}
    text: dict[str, Any] = {
        "vocab_size": len(vocabulary),
        "hidden_size": GEMMA_WIDTH,
        "intermediate_size": 32,
        "num_hidden_layers": GEMMA_LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "initializer_range": 0.5,
    }
    torch.manual_seed(6)
    if sees:
        vision = {
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 7,
            "vision_use_head": False,
        }
        config = Gemma3Config(
            text_config=text,
            vision_config=vision,
            mm_tokens_per_image=4,
            boi_token_index=index["<start_of_image>"],
            eoi_token_index=index["<end_of_image>"],
            image_token_index=index["<image_soft_token>"],
            initializer_range=0.5,
        )
        encoder: Any = Gemma3ForConditionalGeneration(config)
        encoder.model.multi_modal_projector.mm_input_projection_weight.data.normal_()
    else:
        encoder = Gemma3ForCausalLM(Gemma3TextConfig(**text))
    encoder.save_pretrained(folder / "text_encoder")
    tokenizer = Tokenizer(models.WordLevel(index, unk_token="<unk>"))
    tokenizer.add_special_tokens([sign for sign in (*SIGNS, *IMAGE_SIGNS) if sign in index])
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>", unk_token="<unk>"
    )
    wrapped.save_pretrained(folder / "tokenizer")
    return folder


def write_model(folder: Path, *, sees: bool = False) -> Path:
    """Writes the whole small model in diffusers layout."""
    for part in CLASSES:
        small.write_folder(folder / part, model(part))
    small.write_folder(folder / "latent_upsampler", upsampler())
    return write_text(folder, sees=sees)


def opened(part: PartName, config: Mapping[str, Any]) -> Checkpoint:
    """Returns a checkpoint of a part without weights."""
    return Checkpoint(part, Path("published"), LTX2_LAYOUT.classes[part], config, {})


@dataclass(frozen=True)
class NoisyTrack:
    """The inputs of a track whose tokens all carry noise."""

    bounds: Tensor
    is_free: bool = True

    @property
    def levels(self) -> tuple[Tensor, Tensor]:
        return torch.ones(1), torch.zeros(self.bounds.shape[2], dtype=torch.long)


def evaluated(transformer: Any, words: EncodedPrompt, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Returns the velocities of eight video tokens and six audio tokens, which are always the same."""
    generator = torch.Generator().manual_seed(3)
    counts, axes, widths = {"video": 8, "audio": 6}, {"video": 3, "audio": 1}, {"video": 4, "audio": 8}
    tokens, tracks = {}, {}
    for stream, count in counts.items():
        starts = torch.arange(float(count)).expand(1, axes[stream], count)
        tracks[stream] = NoisyTrack(torch.stack([starts, starts + 1], -1))
        tokens[stream] = torch.randn(1, count, widths[stream], generator=generator).to(dtype)
    positioned = PositionedTracks.of(transformer, tracks)  # type: ignore[arg-type]
    with torch.no_grad():
        found = velocities(transformer, positioned, tokens, 0.6, [Prediction(words)], ())  # type: ignore[arg-type]
    return found["video"], found["audio"]
