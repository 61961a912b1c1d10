"""Detects the container of a video file from the file's first bytes."""

from pathlib import Path

from longtake.errors import UnsupportedVideo, machine_error

CONTAINERS = ("mp4", "mov", "matroska", "webm", "gif", "avi", "mpegts", "webp")
"""The containers that can be read."""

_HEAD_BYTES = 4096
TS_PACKETS = (188, 192, 204)
"""The possible sizes in bytes of the packets of MPEG transport streams: plain, Blu-ray (with time codes), and with
error correction."""
_PICTURE_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF", b"heic": "a HEIC", b"heix": "a HEIC", b"mif1": "a HEIF"}

# First bytes of other kinds of files, and the names of these kinds for the error message.
_SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"BM", "a BMP picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"8BPS", "a Photoshop picture"),
    (b"ID3", "an MP3 sound file"),
    (b"\xff\xfb", "an MP3 sound file"),
    (b"\xff\xf1", "an AAC sound file"),
    (b"fLaC", "a FLAC sound file"),
    (b"OggS", "an Ogg file"),
    (b"FLV\x01", "a Flash video"),
    (b"\x30\x26\xb2\x75", "a Windows Media file"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)

# First bytes of text files, in lower case and without leading blanks, and the names of these kinds.
_TEXTS = (
    (b"#extm3u", "an HLS playlist"),
    (b"ffconcat", "a list of files to join"),
    (b"v=0", "a session description (SDP)"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"<svg", "an SVG drawing"),
    (b"<mpd", "a DASH manifest"),
    (b"<?xml", "an XML document"),
    (b"{", "JSON text"),
    (b"[", "text"),
)


def sniff(path: Path) -> str:
    """Returns the container of a video file, such as mp4: one of CONTAINERS. The file's name is ignored.

    Raises UnsupportedVideo if the file cannot be opened or is of another kind; the message names that kind. Raises
    OSError if this machine is at fault (see `errors.TEMPORARY`), for example because too many files are open.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        if machine_error(error) is not None:
            raise
        raise UnsupportedVideo(f"The file {path.name} cannot be opened: {error.strerror}.") from None
    container = _container(head)
    if container is None:
        raise UnsupportedVideo(
            f"The file is {_looks_like(head)}, not a video that can be read ({', '.join(CONTAINERS)}).",
            ctx={"supported_formats": list(CONTAINERS)},
        )
    return container


def _container(head: bytes) -> str | None:
    kind = head[4:8]
    if kind == b"ftyp":
        brand = head[8:12]
        if brand in _PICTURE_BRANDS:
            return None
        return "mov" if brand == b"qt  " else "mp4"
    if kind in (b"moov", b"mdat", b"wide", b"pnot"):
        return "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "webm" if b"\x42\x82\x84webm" in head[:64] else "matroska"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF"):
        if head[8:12] == b"AVI ":
            return "avi"
        if head[8:16] == b"WEBPVP8X" and head[20:21] and head[20] & 2:
            return "webp"
    if any(_is_ts(head, size) for size in TS_PACKETS):
        return "mpegts"
    return None


def _is_ts(head: bytes, packet: int) -> bool:
    start = packet - 188 if packet == 192 else 0
    syncs = head[start : start + 5 * packet : packet]
    return len(syncs) >= 3 and set(syncs) == {0x47}


def _looks_like(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp":
        return f"{_PICTURE_BRANDS.get(head[8:12], 'a')} picture"
    if head.startswith(b"RIFF"):
        return {b"WEBP": "a still WebP picture", b"WAVE": "a WAV sound file"}.get(head[8:12], "an unknown RIFF file")
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, name in _TEXTS:
        if text.startswith(beginning):
            return name
    if b"\0" not in head and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "text"
    return "of no kind that is known"
