"""The cases of LTX-2's other parts and of loading: how this package computes each. Results are (name, tensor)."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.oracle.case import Case
from longtake.families.ltx2.audio import encode_sound
from longtake.families.ltx2.mel import MODEL_RATE, log_mel, resample
from longtake.models.checkpoints import load, open_part
from longtake.models.gemma import GemmaTextEncoder
from longtake.models.registry import PartName
from longtake.sampling.vae import Statistics, decode

Results = Iterator[tuple[str, Tensor]]


def video_vae(case: Case) -> Results:
    """The video VAE of LTX-2."""
    net = case.model("ltx2_video_vae")
    norm = Statistics.of(net, case.device)
    mode = net.encode(case.given["pixels"].to(case.dtype)).latent_dist.mode()
    yield "encoded", norm.normalise(mode.float())
    yield "decoded", decode(net, norm.unnormalise(case.given["latent"]), 0).transpose(0, 1)[None]


def audio_vae(case: Case) -> Results:
    """The audio VAE."""
    net = case.model("ltx2_audio_vae")
    mean, std = (value.float().view(2, 1, 4) for value in (net.latents_mean, net.latents_std))
    mode = net.encode(case.given["mel"].to(case.dtype)).latent_dist.mode()
    yield "encoded", (mode.float() - mean) / std
    yield "decoded", net.decode((case.given["latent"] * std + mean).to(case.dtype)).sample.float()


def mel(case: Case) -> Results:
    """Resampling and log-mel spectrograms."""
    yield "mel64", log_mel(case.given["waveform"], 64)
    yield "mel16", log_mel(case.given["waveform"], 16)
    resampled = resample(case.given["waveform2"], case.params["input_sample_rate_of_waveform2"], MODEL_RATE)
    yield "resampled", resampled
    yield "mel64_of_resampled", log_mel(resampled, 64)


def sound(case: Case) -> Results:
    """The way from a sound to its tokens."""
    samples = case.given["waveform"][0].cpu().numpy()
    tokens = encode_sound(case.model("ltx2_audio_vae"), samples, MODEL_RATE, case.device)
    yield "latent_of_waveform", tokens.unflatten(2, (2, 4)).transpose(1, 2)


def vocoder(case: Case) -> Results:
    """The vocoder. This package computes it in float32, whatever dtype its weights have."""
    net, spectrum = case.model("ltx2_vocoder"), case.given["mel"]
    if case.way == "diffusers":
        yield "waveform", net(spectrum.to(case.dtype)).float()
    else:
        yield "waveform", net.float()(spectrum)


def connectors(case: Case) -> Results:
    """The way from Gemma's hidden states to text tokens."""
    hidden, mask = case.given["hidden_states"], case.given["attention_mask"]
    net = case.model("ltx2_connectors")
    if case.way == "diffusers":
        video, audio, _ = net(hidden.to(case.dtype), mask)
    else:
        words = _Words(mask.cpu())
        options = {"num_tokens": mask.shape[1], "device": case.device, "dtype": case.dtype, "cache_entries": 1}
        made = GemmaTextEncoder(_Gemma(hidden), net, words, **options).encode("")
        video, audio = made.video, made.audio
    yield "video", video.float()
    yield "audio", audio.float()


class _Gemma(torch.nn.Module):
    """Stands for Gemma: returns hidden states [1, tokens, channels, layers] that were computed before."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, input_ids: Tensor, attention_mask: Tensor, output_hidden_states: bool) -> Any:
        return type("Output", (), {"hidden_states": self.hidden.unbind(-1)})


class _Words:
    """Stands for Gemma's tokenizer: returns a mask [1, tokens] whatever the prompt is."""

    pad_token = "<pad>"

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def __call__(self, prompt: str, padding_side: str, **_: Any) -> Any:
        assert padding_side == "left", "as the case was made"
        return type("Ids", (), {"input_ids": torch.zeros_like(self.mask), "attention_mask": self.mask})


PARTS: dict[str, PartName] = {
    "ltxv_transformer": "transformer",
    "ltxv_vae": "vae",
    "ltx2_transformer": "transformer",
    "ltx2_connectors": "connectors",
    "ltx2_video_vae": "vae",
    "ltx2_audio_vae": "audio_vae",
    "ltx2_vocoder": "vocoder",
}
"""The part of a single file that each model of a case is."""


def single_file(case: Case) -> Results:
    """The weights of all models in an original single file, loaded onto the device."""
    for key in case.document["models"]:
        opened = open_part(PARTS[key], case.root / case.name / case.params["file"])
        for name, value in load(opened, dtype=case.dtype, device=case.device).state_dict().items():
            yield f"{key}.{name}", value
