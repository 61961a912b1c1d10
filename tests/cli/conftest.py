"""Source files for the command line, good and bad ones, and the embedded models."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from longtake.models.registry import adapters, card, missing
from longtake.settings import Settings
from tests.media.clips import FASTSTART, X264_SHORT_GOP, Clip, Tone, cut

OUTPUT = "out"


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of source files, good and bad ones, with bad LoRAs and requests."""
    folder = tmp_path_factory.mktemp("clips")
    Clip("clip.mp4", options=X264_SHORT_GOP, muxer_options=FASTSTART, sound=Tone()).write(folder)
    Clip("film.mp4", options=X264_SHORT_GOP, rate=Fraction(24000, 1001), frames=17).write(folder)
    Clip("fast.mp4", options=X264_SHORT_GOP, rate=Fraction(120), frames=48).write(folder)
    Clip("sound.mp4", codec=None, sound=Tone()).write(folder)
    Clip("late.mp4", options=X264_SHORT_GOP).write(folder)
    cut(folder / "late.mp4", folder / "no_end.mp4", 0.5)
    long = Clip("long.mp4", options=X264_SHORT_GOP, muxer_options=FASTSTART, frames=48).write(folder)
    data = bytearray(long.read_bytes())
    middle = (data.index(b"mdat") + len(data)) // 2
    data[middle : middle + 400] = bytes(400)
    (folder / "hole.mp4").write_bytes(data)
    Image.new("RGB", (64, 48)).save(folder / "still.png")
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("not a video\n" * 20)
    (folder / "folder.mp4").mkdir()
    (folder / "broken.json").write_text("{")
    (folder / "unknown.json").write_text(json.dumps({"prompt": "sea", "promt": "sea"}))
    (folder / "text.safetensors").write_text("no weights here")
    save_file({"diffusion_model.foo.weight": torch.zeros(2, 2)}, folder / "other.safetensors")
    to_q = "transformer.transformer_blocks.0.attn1.to_q"
    wrong = {f"{to_q}.lora_A.weight": torch.zeros(1, 3), f"{to_q}.lora_B.weight": torch.zeros(3, 1)}
    save_file(wrong, folder / "misfit.safetensors")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / OUTPUT
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def model() -> str:
    """The name of the embedded LTX-Video model."""
    lacking = missing(card("ltxv-tiny"), Settings())
    if lacking:
        pytest.skip(f"the embedded model's weights are not installed: {', '.join(lacking)}")
    torch.set_num_threads(1)
    return "ltxv-tiny"


@pytest.fixture(scope="session")
def model_with_sound() -> str:
    """The name of the embedded LTX-2 model."""
    lacking = [
        *missing(card("ltx2-tiny"), Settings()),
        *(() if adapters(card("ltx2-tiny"), Settings()) else ("loras",)),
    ]
    if lacking:
        pytest.skip(f"the embedded model with sound is not installed: {', '.join(lacking)}")
    torch.set_num_threads(1)
    return "ltx2-tiny"
