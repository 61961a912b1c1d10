"""Small LTX-Video models with random weights, and checkpoints of them in both layouts."""

import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from safetensors.torch import save_file
from torch import Tensor, nn

TRANSFORMER: dict[str, Any] = {
    "in_channels": 6,
    "out_channels": 6,
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 16,
    "num_layers": 2,
    "caption_channels": 12,
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 6,
    "block_out_channels": [2, 4, 8],
    "down_block_types": ["LTXVideo095DownBlock3D"] * 2,
    "decoder_block_out_channels": [4, 8],
    "layers_per_block": [1, 2, 1],
    "decoder_layers_per_block": [1, 2, 1],
    "spatio_temporal_scaling": [True] * 2,
    "decoder_spatio_temporal_scaling": [True] * 2,
    "decoder_inject_noise": [False] * 3,
    "downsample_type": ["spatial", "spatiotemporal"],
    "upsample_residual": [True] * 2,
    "upsample_factor": [2, 2],
    "timestep_conditioning": True,
    "spatial_compression_ratio": 16,
    "temporal_compression_ratio": 2,
}
UPSAMPLER: dict[str, Any] = {"in_channels": 6, "mid_channels": 32, "num_blocks_per_stage": 1, "dims": 3}

PUBLISHED: dict[str, Any] = {
    "transformer": {"_class_name": "Transformer3DModel", "qk_norm": "rms_norm", **TRANSFORMER},
    "vae": {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 6,
        "encoder_blocks": [
            ["res_x", {"num_layers": 1}],
            ["compress_space_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 2}],
            ["compress_all_res", {"multiplier": 2}],
            ["res_x", {"num_layers": 1}],
        ],
        "decoder_blocks": [
            ["res_x", {"num_layers": 1, "inject_noise": False}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 2, "inject_noise": False}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 1, "inject_noise": False}],
        ],
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
        "use_quant_conv": False,
        "causal_decoder": False,
        "timestep_conditioning": True,
        "encoder_base_channels": 2,
        "decoder_base_channels": 2,
    },
}


def seeded(cls: Any, config: Mapping[str, Any]) -> nn.Module:
    torch.manual_seed(5)
    model = cls.from_config(dict(config)).eval().requires_grad_(False)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape) * 0.1)
    assert isinstance(model, nn.Module)
    return model


def transformer() -> nn.Module:
    return seeded(LTXVideoTransformer3DModel, TRANSFORMER)


def vae() -> nn.Module:
    return seeded(AutoencoderKLLTXVideo, VAE)


def upsampler() -> nn.Module:
    return seeded(LTXLatentUpsamplerModel, UPSAMPLER)


def published_names(model: nn.Module) -> dict[str, Tensor]:
    """The state of a transformer or autoencoder under the names of the published files, written from their side."""
    state = model.state_dict()
    if isinstance(model, LTXVideoTransformer3DModel):
        words = {"proj_in.": "patchify_proj.", "time_embed.": "adaln_single."}
        words |= {"norm_q.": "q_norm.", "norm_k.": "k_norm."}
        return {"model.diffusion_model." + _reworded(key, words): tensor for key, tensor in state.items()}
    names = {}
    for key, tensor in state.items():
        name = key
        for pattern, place in (
            (r"^encoder\.mid_block", lambda m: "encoder.down_blocks.4"),
            (r"^decoder\.mid_block", lambda m: "decoder.up_blocks.0"),
            (r"^(encoder\.down_blocks)\.(\d)\.downsamplers\.0", lambda m: f"{m[1]}.{2 * int(m[2]) + 1}"),
            (r"^(decoder\.up_blocks)\.(\d)\.upsamplers\.0", lambda m: f"{m[1]}.{2 * int(m[2]) + 1}"),
            (r"^(encoder\.down_blocks)\.(\d)", lambda m: f"{m[1]}.{2 * int(m[2])}"),
            (r"^(decoder\.up_blocks)\.(\d)", lambda m: f"{m[1]}.{2 * int(m[2]) + 2}"),
        ):
            if re.match(pattern, key):
                name = re.sub(pattern, place, key)
                break
        name = name.replace("resnets", "res_blocks")
        name = re.sub(r"^decoder\.(time_embedder|scale_shift_table)", r"decoder.last_\1", name)
        statistics = {"latents_mean": "mean-of-means", "latents_std": "std-of-means"}
        names["vae." + (f"per_channel_statistics.{statistics[name]}" if name in statistics else name)] = tensor
    return names | {
        "vae.per_channel_statistics.channel": torch.arange(6),
        "vae.per_channel_statistics.mean-of-stds": torch.ones(6),
    }


def _reworded(key: str, words: Mapping[str, str]) -> str:
    for ours, theirs in words.items():
        key = key.replace(ours, theirs)
    return key


def write_single(
    path: Path, config: Mapping[str, Any] | None = PUBLISHED, extra: Mapping[str, Tensor] | None = None
) -> Path:
    """A published single file of the small transformer and autoencoder."""
    tensors = published_names(transformer()) | published_names(vae()) | dict(extra or {})
    metadata = None if config is None else {"config": json.dumps(config)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata)
    return path


def write_folder(folder: Path, model: nn.Module, *, shards: int = 1) -> Path:
    """A folder in diffusers layout, whole or in shards with an index."""
    folder.mkdir(parents=True)
    config: dict[str, Any] = dict(model.config) | {  # type: ignore[arg-type]
        "_class_name": type(model).__name__
    }
    (folder / "config.json").write_text(json.dumps(config))
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    name = "diffusion_pytorch_model.safetensors"
    if shards == 1:
        save_file(state, folder / name)
        return folder
    index: dict[str, str] = {}
    for shard in range(shards):
        file = f"diffusion_pytorch_model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {key: state[key] for key in list(state)[shard::shards]}
        save_file(part, folder / file)
        index |= dict.fromkeys(part, file)
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def raw_file(path: Path, header: bytes, data: bytes = b"", *, length: int | None = None) -> Path:
    """Writes a file with this header and data; `length` is the header's stated length, by default the true one."""
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)
    return path


def same(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


def write_text(folder: Path) -> None:
    """A T5 encoder and a word tokenizer, in their folders."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(6)
    config = T5Config(
        vocab_size=16, d_model=12, d_kv=4, d_ff=16, num_layers=1, num_heads=2, architectures=["T5EncoderModel"]
    )
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    words = ["<pad>", "</s>", "<unk>", "a", "red", "blue", "ball", "rolls"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    wrapped.save_pretrained(folder / "tokenizer")


def write_model(folder: Path) -> Path:
    """A whole small model in diffusers layout."""
    write_folder(folder / "transformer", transformer())
    write_folder(folder / "vae", vae())
    write_folder(folder / "latent_upsampler", upsampler())
    write_text(folder)
    return folder


def velocity(transformer: Any, device: str = "cpu") -> Tensor:
    """Evaluates a small transformer on fixed random tokens on a device. Returns the result in host memory."""
    torch.manual_seed(0)
    tokens, prompt, coords = torch.randn(1, 6, 6), torch.randn(1, 4, 12), torch.rand(1, 3, 6)
    velocity = transformer(
        tokens.to(device, transformer.dtype),
        prompt.to(device, transformer.dtype),
        torch.tensor([500.0]).to(device),
        torch.ones(1, 4).to(device, transformer.dtype),
        video_coords=coords.to(device),
        return_dict=False,
    )[0]
    assert isinstance(velocity, Tensor)
    return velocity.cpu()
