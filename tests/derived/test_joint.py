"""The joint of a result as the server's pages show it."""

from pathlib import Path

from PIL import Image

from longtake.derived.joint import inspected
from longtake.media.encode import Encoder
from longtake.media.formats import output_format
from longtake.media.source import open_source
from tests.cli.test_inspection import NEW, RATE, SHOWN, make_plan
from tests.media.files_out import moving


def written(path: Path, num_frames: int) -> Path:
    with Encoder(path, output_format("X264 (.mp4)", "low", "fast"), 160, 96, RATE, sound_rate=None) as file:
        file.write(moving(num_frames, 96, 160))
    return path


def test_place_figures_and_picture(tmp_path: Path) -> None:
    plan, out = make_plan("backward"), tmp_path / "sheet"
    with open_source(written(tmp_path / "a.mp4", SHOWN + NEW)) as source:
        found = inspected(source, out, plan, "caption")
    assert (found["frame"], found["num_frames"], found["fps"]) == (NEW, SHOWN + NEW, 24)
    assert (found["seconds"], found["sound_seconds"], found["new_first"]) == (2, 2, True)
    assert dict(found["rows"])["loudness step"] == "no sound on one side"
    assert found["difference_ratio"] > 0
    with Image.open(out) as picture:
        assert picture.format == "PNG"


def test_a_file_with_too_few_frames_has_only_the_place(tmp_path: Path) -> None:
    with open_source(written(tmp_path / "a.mp4", SHOWN + 1)) as source:
        found = inspected(source, tmp_path / "sheet", make_plan("forward"), "")
    assert (found["frame"], found["rows"]) == (SHOWN, [])
    assert "difference_ratio" not in found
    assert not (tmp_path / "sheet").exists()
