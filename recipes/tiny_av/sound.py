"""The sound of the toy world, and the measurement of a sound.

The sound of a scene depends on the scene alone. Every object is a voice. Its height in the frame sets the pitch, its
horizontal place the balance between left and right, its size the loudness, and its shape the brightness. A bounce
sounds as a thump. A plain background is silent, clouds sound like wind, a gradient like air, and stripes hum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.tiny.world import Scene, track
from recipes.tiny_av.sound_configs import SOUND_RATE

PITCHES = (220.0, 900.0)
"""Pitch in Hz of a scene's first object at the bottom and at the top of the frame, with equal ratios between."""
SECOND = 4.0
"""Factor on the pitch of a scene's second object, which sounds two octaves higher than a first object would."""
BRIGHTNESS = {"circle": 0.0, "ring": 0.2, "triangle": 0.4, "square": 0.6, "bar": 0.8, "star": 1.0}
"""Brightness I of each shape's tone, which is sin(phase + I sin(phase)). 0 is a pure tone; at 1 the second harmonic has
three quarters of the first one's amplitude."""
LOUDNESS = 0.2
"""Amplitude of an object of radius 10.5."""
STEP = 0.005
"""Seconds between the points in time at which a scene is read. Voices glide from one point to the next."""
BANDS = ((350.0, 250.0), (1400.0, 600.0), (4500.0, 1800.0))
"""Centre and width in Hz of the three bands of noise: rumble, wind, air."""
NOISES: dict[str, tuple[float, float, float]] = {
    "plain": (0.0, 0.0, 0.0),
    "gradient": (0.0, 0.0, 0.008),
    "clouds": (0.02, 0.015, 0.005),
    "stripes": (0.0, 0.0, 0.0),
}
"""Root mean square of each band of noise (see BANDS) by texture, for a background of medium brightness."""
HUM = 0.05
HUM_HZ = 100.0


@dataclass(frozen=True)
class Score:
    """The sound of a scene as curves at N points in time: K voices, three bands of noise and a hum.

    times: the points in time in seconds, `[N]`.
    pitch: the pitch of each voice in Hz, `[K, N]`.
    brightness: the brightness of each voice, as in BRIGHTNESS, `[K, N]`.
    left, right: the amplitude of each voice in the left and in the right channel, `[K, N]`.
    noise: the root mean square of each noise band, `[3, N]`.
    hum: the amplitude of the hum, `[N]`.
    """

    times: Tensor
    pitch: Tensor
    brightness: Tensor
    left: Tensor
    right: Tensor
    noise: Tensor
    hum: Tensor


def sound(scene: Scene, num_frames: int, rate: Fraction | float, sound_rate: int = SOUND_RATE) -> Tensor:
    """Returns the sound of a scene's first `num_frames` frames at `rate` per second: `[2, n]` in -1..1.

    sound_rate: the sample rate of the result in Hz.
    """
    seconds = num_frames / float(rate)
    return play(score(scene, seconds, float(rate)), round(seconds * sound_rate), sound_rate, scene.texture_seed)


def score(scene: Scene, seconds: float, rate: float) -> Score:
    """Returns the score of a scene: its sound as curves of pitch and loudness over the first `seconds` seconds.

    `rate` is the number of frames per second at which the scene is shown.
    """
    times = torch.arange(math.ceil(seconds / STEP) + 2) * STEP
    x, y, radius, _ = track(scene, times * rate).unbind(-1)
    height = (0.5 - y / scene.height).clamp(0, 1)
    octave = torch.tensor([1.0, SECOND, 1.0])[: len(scene.things), None]
    pitch = PITCHES[0] * (PITCHES[1] / PITCHES[0]) ** height * octave
    seen = _inside(x, radius, scene.width) * _inside(y, radius, scene.height)
    loud = (LOUDNESS * (radius / 10.5) ** 1.5).clamp(max=0.36) * seen
    angle = (1 + 0.8 * (2 * x / scene.width).clamp(-1, 1)) * math.pi / 4
    shine = torch.tensor([BRIGHTNESS[thing.shape] for thing in scene.things])[:, None].expand_as(pitch)
    bright = 1 + 0.5 * sum(sum(rgb) for rgb in scene.rgb) / 6
    noise = torch.tensor(NOISES[scene.texture])[:, None] * bright * torch.ones_like(times)
    hum = torch.full_like(times, HUM * bright if scene.texture == "stripes" else 0.0)
    thump = _thumps(torch.stack([x, y]), times, [thing.bounces for thing in scene.things])
    noise = noise + thump * torch.tensor([[0.06], [0.02], [0.0]])
    return Score(times, pitch, shine, loud * angle.cos(), loud * angle.sin(), noise, hum + 0.12 * thump)


def _inside(x: Tensor, radius: Tensor, side: int) -> Tensor:
    """Returns how much of an object is inside the frame along one axis, 0..1."""
    return ((side / 2 + radius - x.abs()) / (2 * radius)).clamp(0, 1)


def _thumps(place: Tensor, times: Tensor, bounces: Sequence[bool]) -> Tensor:
    """Returns the loudness of bounces `[N]`: 1 at each bounce, then falling to almost 0 within a tenth of a second."""
    out = torch.zeros_like(times)
    for axis in place:
        for path, bouncing in zip(axis, bounces, strict=True):
            speed = path.diff() * bouncing
            for turn in torch.nonzero(speed[1:] * speed[:-1] < 0)[:, 0] + 1:
                after = times - times[turn]
                out = out + torch.where(after >= 0, torch.exp(-after / 0.03), torch.zeros(()))
    return out.clamp(max=1)


def play(score: Score, length: int, sound_rate: int = SOUND_RATE, seed: int = 0) -> Tensor:
    """Returns the sound of a score (curves of pitch and loudness): `[2, length]` samples at `sound_rate` Hz.

    The seed determines the start phases and the noise.
    """
    dice = torch.Generator().manual_seed(seed)

    def curve(values: Tensor) -> Tensor:
        at = torch.arange(length, dtype=torch.float64) / sound_rate / STEP
        low = at.long().clamp(max=values.shape[-1] - 2)
        part = (at - low).float()
        return values[..., low] * (1 - part) + values[..., low + 1] * part

    pitch = curve(score.pitch).double()
    start = torch.rand(len(pitch), 1, generator=dice, dtype=torch.float64)
    phase = 2 * math.pi * ((pitch.cumsum(-1) / sound_rate + start) % 1).float()
    voices = torch.sin(phase + curve(score.brightness) * torch.sin(phase))
    out = torch.stack([(voices * curve(score.left)).sum(0), (voices * curve(score.right)).sum(0)])
    if bool((score.noise > 0).any()):
        bands = torch.stack([_band(length, sound_rate, centre, width, dice) for centre, width in BANDS])
        out = out + (bands * curve(score.noise)).sum(0)
    if bool((score.hum > 0).any()):
        turn = 2 * math.pi * (torch.arange(length, dtype=torch.float64) / sound_rate * HUM_HZ).float()
        turn = turn + 2 * math.pi * torch.rand(1, generator=dice)
        out = out + curve(score.hum) * (torch.sin(turn) + 0.4 * torch.sin(2 * turn))
    return out.clamp(-1, 1)


def _band(length: int, sound_rate: int, centre: float, width: float, dice: torch.Generator) -> Tensor:
    """Returns a band of noise `[length]` around `centre` Hz, `width` Hz wide, with a root mean square of 1."""
    spectrum = torch.fft.rfft(torch.randn(length, generator=dice))
    hertz = torch.fft.rfftfreq(length, 1 / sound_rate)
    wave: Tensor = torch.fft.irfft(spectrum * torch.exp(-0.5 * ((hertz - centre) / width) ** 2), n=length)
    return wave / wave.square().mean().sqrt().clamp(min=1e-9)


@dataclass(frozen=True)
class Heard:
    """Measurements of a sound every 10 ms, `[T]` each.

    pitch: the strongest partial in Hz; nan if there is none.
    level: the root mean square of both channels, in dB relative to full scale.
    pan: the place of the strongest partial, from -1 (left) to 1 (right).
    """

    pitch: Tensor
    level: Tensor
    pan: Tensor


def listen(wave: Tensor, sound_rate: int = SOUND_RATE, band: tuple[float, float] = (180.0, 1000.0)) -> Heard:
    """Measures a sound `[2, n]` at `sound_rate` Hz.

    The pitch is the strongest partial within `band` (in Hz), at the top of the parabola through its spectral peak. It
    is measured only if the partial is above -60 dB and 12 dB above the band's median.
    """
    size = 2 ** math.ceil(math.log2(0.1 * sound_rate))
    hop = sound_rate // 100
    window = torch.hann_window(size)
    spectrum = torch.stft(wave, size, hop, window=window, pad_mode="constant", return_complex=True).abs()
    both = spectrum.square().sum(0).clamp(min=1e-20).log()
    low, high = (round(edge * size / sound_rate) for edge in band)
    peak = both[low:high].argmax(0) + low
    below, top, above = (both.gather(0, (peak + shift)[None])[0] for shift in (-1, 0, 1))
    shift = 0.5 * (below - above) / (below - 2 * top + above).clamp(max=-1e-6)
    sides = spectrum.gather(1, peak.expand(2, 1, -1))[:, 0] / (window.sum() / 2)
    left, right = sides.square()
    clear = (top - both[low:high].median(0).values > 12 * math.log(10) / 10) & (left + right > 1e-6)
    pitch = torch.where(clear, (peak + shift.clamp(-1, 1)) * sound_rate / size, torch.nan)
    power = F.avg_pool1d(wave.square().mean(0)[None, None], 4 * hop, hop, 2 * hop, count_include_pad=False)[0, 0]
    level = 10 * power.clamp(min=1e-10).log10()
    pan = torch.atan2(right.sqrt(), left.sqrt()) * 4 / math.pi - 1
    count = min(len(pitch), len(level))
    return Heard(pitch[:count], level[:count], pan[:count])
