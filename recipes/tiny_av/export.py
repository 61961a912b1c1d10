"""Writes the model's folder as diffusers and transformers read it: the averaged weights in fp16, and configurations.

    python -m recipes.tiny_av.export [--random]

The latent upsampler is not written, because this model uses the one of the embedded LTX-Video model.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKLLTX2Video, LTX2VideoTransformer3DModel

from recipes.tiny.export import clean_json
from recipes.tiny_av import adapters, audio_vae, configs, picture, text, transformer, vocoder

INDEX = {
    "_class_name": "LTX2Pipeline",
    "scheduler": [None, None],
    "audio_vae": ["diffusers", "AutoencoderKLLTX2Audio"],
    "connectors": ["ltx2", "LTX2TextConnectors"],
    "text_encoder": ["transformers", "Gemma3ForCausalLM"],
    "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    "transformer": ["diffusers", "LTX2VideoTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLLTX2Video"],
    "vocoder": ["ltx2", "LTX2VocoderWithBWE"],
}
LIMIT = 48e6
"""The largest size in bytes of all embedded weights together."""


def random_parts() -> dict[str, Any]:
    """Returns every part with random weights."""
    return {
        "vae": AutoencoderKLLTX2Video(**configs.VAE),
        "transformer": LTX2VideoTransformer3DModel(**configs.TRANSFORMER),
        "audio_vae": audio_vae.new(),
        "vocoder": vocoder.new(),
        **text.stack(),
    }


def trained_parts() -> dict[str, Any]:
    """Returns every part with the weights of its latest checkpoint. A vocoder without checkpoint is left out, and the
    folder keeps the one that it has."""
    parts = {"vae": picture.load(), "audio_vae": audio_vae.load(), **transformer.latest()}
    return parts | {"vocoder": vocoder.load()} if vocoder.checkpoint("main").exists() else parts


def write(parts: dict[str, Any], folder: Path) -> None:
    """Writes each part in half precision into a folder of its name, and all trained adapters."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in parts.items():
        shutil.rmtree(folder / name, ignore_errors=True)
        model.half().save_pretrained(folder / name)
        clean_json(folder / name / "config.json")
        for file in (folder / name).glob("*.safetensors"):
            file.chmod(0o644)
    text.tokenizer().save_pretrained(folder / "tokenizer")
    adapters.write(folder / "loras")
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")


def size(folder: Path) -> int:
    """Returns the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    """Exports to the package's folder of weights, or to the folder in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=configs.WEIGHTS)
    parser.add_argument("--random", action="store_true", help="untrained weights of the final shapes")
    arguments = parser.parse_args()
    write(random_parts() if arguments.random else trained_parts(), arguments.folder)
    for part in sorted(path for path in arguments.folder.iterdir() if path.is_dir()):
        print(f"{part.name:14} {size(part) / 1e6:6.2f} MB")
    print(f"embedded in all {size(configs.WEIGHTS.parent) / 1e6:.2f} MB of {LIMIT / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
