"""Guide videos: edges, depth and poses by real small models, and the error without a model."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from transformers import (
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    VitPoseBackboneConfig,
    VitPoseConfig,
    VitPoseForPoseEstimation,
    VitPoseImageProcessor,
)

from longtake.errors import Cancelled, NotSupported
from longtake.media.preprocess import canny, preprocess
from longtake.settings import Settings, settings


def square() -> NDArray[np.uint8]:
    frames = np.zeros((3, 64, 80, 3), np.uint8)
    frames[:, 16:48, 20:60] = 200
    return frames


def assert_can_be_cancelled(kind: str, configured: Settings) -> None:
    def cancel() -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        preprocess(square(), kind, configured, cancel)


def test_rgb_is_unchanged() -> None:
    frames = square()
    assert preprocess(frames, "rgb", settings()) is frames


def test_canny_draws_the_outline() -> None:
    edges = canny(square())
    assert edges.shape == (3, 64, 80, 3)
    assert set(np.unique(edges)) == {0, 255}
    assert edges[0, 15:17, 30:50].any()
    assert not edges[0, 25:40, 30:50].any(), "nothing inside the square"
    assert_can_be_cancelled("canny", settings())


@pytest.mark.parametrize("kind", ["depth", "pose"])
def test_without_a_model_the_error_names_the_setting(kind: str) -> None:
    with pytest.raises(NotSupported, match=f"LONGTAKE_{kind.upper()}_CHECKPOINT") as error:
        preprocess(square(), kind, settings())
    assert error.value.loc == ("body", "video", "preprocess")
    assert error.value.type == "feature_not_supported"


def test_depth_is_grey_and_uses_the_whole_range(tmp_path: Path) -> None:
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    model = DPTForDepthEstimation(config)
    for parameter in model.parameters():
        parameter.abs_()  # No depth is cut off at zero then.
    model.save_pretrained(tmp_path)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    depth = preprocess(square(), "depth", settings(depth_checkpoint=tmp_path))
    assert depth.shape == (3, 64, 80, 3)
    assert (depth[..., 0] == depth[..., 1]).all()
    assert depth.min() == 0
    assert depth.max() == 255
    assert_can_be_cancelled("depth", settings(depth_checkpoint=tmp_path))


def test_pose_draws_bones_on_black(tmp_path: Path) -> None:
    backbone = VitPoseBackboneConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=[64, 48], patch_size=[8, 8],
        out_indices=[1],
    )  # fmt: skip
    VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, num_labels=17)).save_pretrained(tmp_path)
    VitPoseImageProcessor(size={"height": 64, "width": 48}).save_pretrained(tmp_path)
    drawn = preprocess(square(), "pose", settings(pose_checkpoint=tmp_path))
    assert drawn.shape == (3, 64, 80, 3)
    assert set(np.unique(drawn)) <= {0, 255}
    assert_can_be_cancelled("pose", settings(pose_checkpoint=tmp_path))
