"""A module's weights are on the device only as long as they are needed, and are the same bits each time."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from longtake.models.host_copies import HostCopies

CPU = torch.device("cpu")


def _module() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    module[2].weight = module[0].weight  # as a language model's head shares the weights of its embedding
    return module.eval()


def _places(module: nn.Module) -> list[int]:
    return [tensor.data_ptr() for tensor in (*module.parameters(), *module.buffers())]


def test_all_weights_move_and_come_back() -> None:
    """Without a GPU, copies at other places in host memory stand for the weights on the device."""
    module = _module()
    values = copy.deepcopy(module.state_dict())
    at_home = _places(module)
    copies = HostCopies(module, CPU, pinned=False)
    for _ in range(2):
        copies.onload()
        there = _places(module)
        assert not {*there} & {*at_home}
        copies.onload()
        assert _places(module) == there, "they are there already"
        assert module[2].weight is module[0].weight  # type: ignore[index]
        assert all(torch.equal(values[name], tensor) for name, tensor in module.state_dict().items())
        copies.release()
        copies.release()
        assert _places(module) == at_home, "nothing was copied back"


def test_weights_without_room_on_the_device_stay_at_home_and_can_be_copied_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = _module()
    at_home, num_copied, to = _places(module), 0, Tensor.to
    copies = HostCopies(module, CPU, pinned=False)

    def to_small_device(tensor: Tensor, *arguments: Any, **named: Any) -> Tensor:
        nonlocal num_copied
        num_copied += 1
        if num_copied == 3:
            raise torch.OutOfMemoryError
        return to(tensor, *arguments, **named)

    monkeypatch.setattr(Tensor, "to", to_small_device)
    with pytest.raises(torch.OutOfMemoryError):
        copies.onload()
    assert _places(module) == at_home
    assert copies.onload(), "there is room now"
    assert not {*_places(module)} & {*at_home}


def test_the_module_computes_the_same_after_moving_in_inference_mode() -> None:
    module = _module()
    given = torch.randn(2, 3)
    expected = copy.deepcopy(module)(given)
    copies = HostCopies(module, CPU, pinned=False)
    with torch.inference_mode():
        copies.onload()
    assert torch.equal(module(given), expected)
    copies.release()
    assert torch.equal(module(given), expected)


def test_pinned_copies_take_the_place_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []

    def pin_memory(tensor: Tensor) -> Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin_memory)
    module = _module()
    copies = HostCopies(module, CPU, pinned=True)
    assert len(pinned) == len(_places(module)), "shared weights are pinned once"
    copies.onload()
    copies.release()
    assert _places(module) == [tensor.data_ptr() for tensor in pinned]
