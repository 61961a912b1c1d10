"""What a job leaves behind when its turn on the device ends, while its video is still written."""

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from longtake import runner as runner_module
from longtake.endpoints import ltxv098
from longtake.endpoints.validation import parse
from longtake.errors import MemoryRanOut
from longtake.models.choice import named_model
from longtake.models.registry import card
from longtake.output.joining import Joiner
from longtake.prepare import Fetcher, prepare
from longtake.runner import Runner
from longtake.settings import settings
from longtake.turn import Turn

CLIP = Path(__file__).parents[1] / "examples" / "clip.mp4"
BODY: dict[str, Any] = {
    "prompt": "a red circle",
    "video": {"video_url": str(CLIP), "start_frame_num": 24},
    "num_frames": 17,
    "resolution": "480p",
    "aspect_ratio": "1:1",
    "first_pass_num_inference_steps": 2,
    "seed": 3,
}


def test_when_the_turn_on_the_device_ends_the_job_holds_no_model_and_no_tensor(tmp_path: Path) -> None:
    """Then the next job can load another model although the video of this one is still written."""
    runner, is_freed, live = Runner(settings()), list[bool](), list[int]()

    class Released(Turn):
        def end(self) -> None:
            model = weakref.ref(runner.load(card("ltxv-tiny")))
            runner.release()
            live.append(live_bytes())
            is_freed.append(model() is None)
            super().end()

    choice, local = named_model("ltxv-tiny", settings()), Fetcher(allow_local=True)
    request = parse(ltxv098.Request, BODY)
    for _ in range(2):  # the first time, constants are computed that stay
        with prepare(ltxv098.ENDPOINT, request, choice, settings(), fetcher=local) as job:
            runner.run(job, tmp_path / "out.mp4", turn=Released(threading.Lock()))
    assert is_freed == [True, True]
    assert live[1] <= live[0]


def test_memory_is_given_back_only_while_no_other_job_uses_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory runs out while the video is written, after the turn. Another job may record a CUDA graph then."""
    runner, turn, in_turn = Runner(settings()), Turn(threading.Lock()), list[bool]()

    def fail(joiner: Joiner) -> None:
        assert not turn.is_mine
        raise MemoryError

    monkeypatch.setattr(Joiner, "finish", fail)
    monkeypatch.setattr(runner_module, "_free_memory", lambda: in_turn.append(turn.is_mine))
    choice, local = named_model("ltxv-tiny", settings()), Fetcher(allow_local=True)
    with (
        prepare(ltxv098.ENDPOINT, parse(ltxv098.Request, BODY), choice, settings(), fetcher=local) as job,
        pytest.raises(MemoryRanOut),
    ):
        runner.run(job, tmp_path / "out.mp4", turn=turn)
    assert in_turn == [True], "before the second try; after it, the other job keeps the model"


def live_bytes() -> int:
    """Returns the bytes of all tensors to which something refers."""
    gc.collect()
    kinds = (torch.Tensor, torch.nn.Parameter)  # not those without memory that torch.compile leaves behind
    return sum(one.nbytes for one in gc.get_objects() if type(one) in kinds)
