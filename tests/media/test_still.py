"""Still pictures of all kinds, and errors for files that are none."""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

from longtake.errors import UnsupportedImage, VideoTooLarge
from longtake.media.limits import Limits
from longtake.media.still import open_still
from tests.media.clips import Clip

pytestmark = pytest.mark.usefixtures("forked_decoders")

WIDTH, HEIGHT = 48, 32


def drawn() -> NDArray[np.uint8]:
    """A picture with another colour in each corner."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 2] = (200, 40, 40)
    picture[: HEIGHT // 2, WIDTH // 2 :] = (40, 200, 40)
    picture[HEIGHT // 2 :, : WIDTH // 2] = (40, 40, 200)
    picture[HEIGHT // 2 :, WIDTH // 2 :] = (120, 120, 120)
    return picture


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.gif", {}),
        ("a.webp", {"lossless": True}),
        ("a.ppm", {}),
        ("a.tga", {}),
        ("a.jp2", {}),
        ("a.jpg", {"quality": 100, "subsampling": 0}),
        ("a.avif", {"quality": 100, "subsampling": "4:4:4"}),
        ("no_suffix", {"format": "PNG"}),
    ],
)
def test_pixels_are_unchanged(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    Image.fromarray(drawn()).save(tmp_path / name, **options)
    read = open_still(tmp_path / name).pixels
    assert read.dtype == np.uint8
    assert read.shape == (HEIGHT, WIDTH, 3)
    lossy = name.endswith(("jpg", "avif", "jp2"))
    assert np.abs(read.astype(int) - drawn()).max() <= (12 if lossy else 0)


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [(1, drawn()), (3, drawn()[::-1, ::-1]), (6, np.rot90(drawn(), -1)), (8, np.rot90(drawn())), (2, drawn()[:, ::-1])],
)
def test_exif_orientation_is_applied(orientation: int, turned: NDArray[np.uint8], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(drawn()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(open_still(tmp_path / "a.png").pixels, turned)


def test_transparent_parts_become_black(tmp_path: Path) -> None:
    alpha = np.zeros((HEIGHT, WIDTH, 1), np.uint8)
    alpha[:, WIDTH // 2 :] = 255
    Image.fromarray(np.concatenate([drawn(), alpha], 2)).save(tmp_path / "a.png")
    still = open_still(tmp_path / "a.png")
    assert still.transparent
    read = still.pixels
    assert not read[:, : WIDTH // 2].any()
    assert np.array_equal(read[:, WIDTH // 2 :], drawn()[:, WIDTH // 2 :])


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA"])
def test_pictures_of_every_mode_become_rgb(mode: str, tmp_path: Path) -> None:
    name = "a.tif" if mode == "CMYK" else "a.png"
    Image.fromarray(drawn()).convert(mode).save(tmp_path / name)
    assert open_still(tmp_path / name).pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", np.full((HEIGHT, WIDTH), 32_896, np.uint16)),
        ("a.tif", np.full((HEIGHT, WIDTH), 128 / 255, np.float32)),
    ],
)
def test_16_bit_and_float_greys_are_scaled(name: str, pixels: NDArray[Any], tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / name)
    assert set(open_still(tmp_path / name).pixels.flatten()) == {128}


def test_icc_profiles_are_converted_to_srgb(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(drawn()).convert("RGB").save(tmp_path / "odd.png", icc_profile=lab)
    assert np.array_equal(open_still(tmp_path / "odd.png").pixels, drawn()), "a profile that does not fit is not used"
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(drawn()).save(tmp_path / "a.png", icc_profile=srgb)
    assert np.abs(open_still(tmp_path / "a.png").pixels.astype(int) - drawn()).max() <= 1


def test_the_first_of_several_pictures_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(drawn()), Image.new("RGB", (WIDTH, HEIGHT))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=100, subsampling=0)
    assert np.abs(open_still(tmp_path / "a.jpg").pixels.astype(int) - drawn()).max() <= 12


def test_the_first_frame_of_an_animation_is_read(tmp_path: Path) -> None:
    first, second = Image.fromarray(drawn()), Image.new("RGB", (WIDTH, HEIGHT))
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(open_still(tmp_path / "a.webp").pixels, drawn())


def test_files_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    Clip("clip.mp4", frames=3, rate=Fraction(24)).write(tmp_path)
    whole = io.BytesIO()
    Image.fromarray(drawn()).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:100])
    for name in ("text.png", "empty.png", "clip.mp4"):
        with pytest.raises(UnsupportedImage, match="not a picture that can be read") as error:
            open_still(tmp_path / name)
        assert error.value.type == "unsupported_image_format"
    with pytest.raises(UnsupportedImage, match="The picture cannot be read"):
        open_still(tmp_path / "cut.png")


def test_a_picture_above_the_limit_is_refused(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(VideoTooLarge, match="20000x20000"):
        open_still(tmp_path / "bomb.png")
    with pytest.raises(UnsupportedImage, match="picture"):
        open_still(tmp_path / "bomb.png", limits=Limits(max_pixels=10**9, memory_bytes=512 << 20))
