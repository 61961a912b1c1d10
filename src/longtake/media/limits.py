"""The limits for reading one untrusted file. A server can import this module, because it does not import NumPy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits for reading one file.

    max_pixels: largest number of pixels of one frame.
    max_duration_s, max_frames: longest video in seconds and in frames.
    max_animation_pixels: largest number of pixels of all frames of a GIF or WebP file together. These formats can store
        many large frames in few bytes.
    memory_bytes: largest address space in bytes of the child process that reads the file.
    open_cpu_s: largest number of seconds of processor time for opening the file, before its packets and frames are
        read. Files of many tags or programs can take FFmpeg hours; a usual one takes a fraction of a second.
    cpu_s, wall_s: largest number of seconds of processor time, and of elapsed time, for one call of this process. A
        call probes the file, or reads one chunk of frames or one block of sound.
    """

    max_pixels: int = 4096 * 4096
    max_duration_s: float = 3600
    max_frames: int = 60 * 3600
    max_animation_pixels: int = 20_000_000_000
    memory_bytes: int = 2 << 30
    open_cpu_s: float = 5
    cpu_s: float = 240
    wall_s: float = 120
