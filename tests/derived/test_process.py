"""The process that makes derived files: its answers and errors, and its end."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from longtake.derived import process
from longtake.derived.order import Order
from longtake.derived.process import Execution
from longtake.errors import DecoderFailed, VideoTooLong
from longtake.media.limits import Limits
from tests.media.clips import Clip


def order(path: Path, maker: str = "facts", limits: Limits = Limits(), **arguments: Any) -> Order:  # noqa: B008
    return Order(maker, str(path), str(path.with_name("out")), limits, arguments)


def run(made: Order) -> Mapping[str, Any]:
    return Execution().run(made, lambda share: None)


def test_an_order_keeps_all_its_fields() -> None:
    made = order(Path("a"), "strip", Limits(max_pixels=5), frames=3)
    assert Order.from_json(made.to_json()) == made


def test_the_errors_of_the_file_are_raised(tmp_path: Path) -> None:
    path = Clip("b.mp4", frames=4).write(tmp_path)
    with pytest.raises(VideoTooLong, match="more than 3 frames") as caught:
        run(order(path, limits=Limits(max_frames=3)))
    assert caught.value.status == 422


def test_other_failures_are_not_the_file_s_fault(tmp_path: Path) -> None:
    path = Clip("b.mp4", frames=4).write(tmp_path)
    with capture_logs() as logs, pytest.raises(DecoderFailed):
        run(order(path, "strip", frames="many", height=72))
    assert [(line["log_level"], line["maker"]) for line in logs] == [("error", "strip")]
    assert "TypeError" in logs[0]["exception"]


def test_a_program_that_ends_before_its_order_is_written_is_not_the_file_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PROGRAM", "longtake.version")  # it reads nothing
    execution = Execution()

    class LateOrder(Order):
        def to_json(self) -> str:
            assert execution._process is not None
            execution._process.wait()
            return super().to_json()

    late = LateOrder("facts", str(tmp_path / "a"), str(tmp_path / "out"), Limits(), {})
    with pytest.raises(DecoderFailed, match="ended before"):
        execution.run(late, lambda share: None)


def test_a_killed_process_ends_at_once(tmp_path: Path) -> None:
    path = Clip("b.mp4", frames=200).write(tmp_path)
    execution, errors = Execution(), list[Exception]()

    def carry_out() -> None:
        try:
            execution.run(order(path, "copy"), lambda share: execution.kill())
        except DecoderFailed as error:
            errors.append(error)

    thread = threading.Thread(target=carry_out)
    thread.start()
    thread.join(60)
    assert len(errors) == 1
    with pytest.raises(DecoderFailed, match="given up"):
        execution.run(order(path), lambda share: None)
