"""Writes the model's folder as diffusers and transformers read it: the averaged weights in fp16, and configurations.

python -m recipes.tiny.export
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLLTXVideo
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

from recipes.tiny import configs, text, transformer, vae

JUNK = ("_name_or_path", "transformers_version")
INDEX = {
    "_class_name": "LTXConditionPipeline",
    "scheduler": [None, None],
    "text_encoder": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "LTXVideoTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLLTXVideo"],
}


def trained_vae(work: Path) -> Any:
    """Returns the trained VAE, which also holds the latents' statistics.

    The decoder is that of the latest phase that has run.
    """
    model = AutoencoderKLLTXVideo(**configs.VAE)
    for path in (work / f"vae_{phase}.pt" for phase in vae.PLANS):
        if path.exists():
            vae.load(model, path)
    mean, std = torch.load(work / "latents_statistics.pt")
    model.latents_mean.copy_(mean)
    model.latents_std.copy_(std)
    return model


def clean_json(path: Path) -> None:
    """Removes the values from a configuration file that depend on the machine that wrote it."""
    values = {key: value for key, value in json.loads(path.read_text()).items() if key not in JUNK}
    path.write_text(json.dumps(values, indent=2) + "\n")


def export(work: Path, folder: Path) -> None:
    """Writes every part from the checkpoints in `work` to `folder`. Without a checkpoint the upsampler is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    family = transformer.models()
    stages = [work / name for name in transformer.FILES.values()]
    latest = [path for path in stages if path.exists()][-1]
    transformer.load(family, latest)
    parts: dict[str, Any] = {"vae": trained_vae(work), **family}
    if (work / "upsampler.pt").exists():
        parts["latent_upsampler"] = LTXLatentUpsamplerModel(**configs.UPSAMPLER)
        parts["latent_upsampler"].load_state_dict(torch.load(work / "upsampler.pt")["averaged"])
    for name, model in parts.items():
        model.half().save_pretrained(folder / name)
        clean_json(folder / name / "config.json")
        for file in (folder / name).glob("*.safetensors"):
            file.chmod(0o644)
    text.tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")


def main() -> None:
    """Exports to the package's folder of weights, or to the folder in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=configs.WORK)
    parser.add_argument("--folder", type=Path, default=configs.WEIGHTS)
    arguments = parser.parse_args()
    export(arguments.work, arguments.folder)
    size = sum(path.stat().st_size for path in arguments.folder.rglob("*") if path.is_file())
    print(f"{arguments.folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
