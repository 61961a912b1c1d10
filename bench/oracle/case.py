"""One case of the numeric oracle: what is asked, the tensors given, and those that the original implementation made."""

import importlib
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.oracle.ways import Way, attach

CPU = torch.device("cpu")

ROOT = Path(__file__).parents[2]

FOLDERS = (ROOT / "oracle", ROOT.parent / "shared" / "oracle", ROOT / "tests" / "data" / "oracle")
"""The folders in which the oracle can be: in the bundle for a GPU machine, beside the project, and the part of it that
the tests bring along."""

ON_HOST = re.compile(r"sigmas")
"""Matches the names of given tensors that stay on the CPU: noise levels, which the loops over the steps read."""

UNCHANGED = re.compile(r"sigmas|mask|positions|coords|timestep|latents_(mean|std)|waveform")
"""Matches the names of given tensors that `Case.draw` leaves as they are."""

DRAW_DEVIATION = 2**-6
"""The standard deviation of the factors, around 1, with which `Case.draw` multiplies the given values."""


@dataclass(frozen=True)
class Case:
    """A case, on the device and in the dtype in which it is computed.

    root: the folder of the oracle.
    name: the case's name, which is also the name of its folder.
    document: the content of its `case.json`.
    given: the given tensors by name, in float32 on the device.
    expected: the results of the original implementation by name, on the CPU.
    dtype: the dtype of the models and of the encoded prompts.
    way: how the models compute.
    """

    root: Path
    name: str
    document: Mapping[str, Any]
    given: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]
    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    way: Way = "package"
    _models: dict[str, nn.Module] = field(default_factory=dict, repr=False, compare=False)

    @property
    def params(self) -> dict[str, Any]:
        """What is asked."""
        params = self.document["params"]
        assert isinstance(params, dict)
        return params

    def on(self, device: torch.device, dtype: torch.dtype, way: Way = "package") -> "Case":
        """Returns the case for another device, dtype and way."""
        given = {name: value if ON_HOST.match(name) else value.to(device) for name, value in self.given.items()}
        return replace(self, given=given, device=device, dtype=dtype, way=way, _models={})

    def draw(self, number: int) -> "Case":
        """Returns the case with other inputs. Each given latent, noise and text is multiplied by random factors near 1.

        Number 0 has the case's own inputs. Equal numbers give equal inputs. The models are shared with this case. The
        tensors in `expected` are those of the case's own inputs.
        """
        if number == 0:
            return self

        def changed(name: str, value: Tensor) -> Tensor:
            if UNCHANGED.search(name) or not value.is_floating_point():
                return value
            generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {number}".encode()))
            return value * (1 + DRAW_DEVIATION * torch.randn(value.shape, generator=generator)).to(value.device)

        return replace(self, given={name: changed(name, value) for name, value in self.given.items()})

    def model(self, key: str) -> Any:
        """Returns the case's model of this key, with its weights. It is made once, and computes in the case's way."""
        if key not in self._models:
            facts = self.document["models"][key]
            net = getattr(importlib.import_module(facts["module"]), facts["cls"]).from_config(facts["config"]).eval()
            net.load_state_dict(load_file(self.root / facts["weights"]), strict=True)
            nn.Module.to(net.requires_grad_(False), self.device, self.dtype)  # diffusers' own method warns
            attach(net, self.way)
            self._models[key] = net
        return self._models[key]

    def tolerance(self, name: str) -> float:
        """Returns the largest error (see `error`) that a result of this name may have in float32."""
        return float(self.document.get("tolerance_per_tensor", {}).get(name, self.document["tolerance_rel_to_max"]))

    def error(self, name: str, got: Tensor) -> float:
        """Returns the largest difference from the expected tensor, as a multiple of the largest expected value.

        It is infinite if a value is not a number. Raises AssertionError if the shape is another one.
        """
        wanted, found = self.expected[name].double(), got.cpu().double()
        assert found.shape == wanted.shape, f"{self.name} {name}: {tuple(found.shape)}, not {tuple(wanted.shape)}"
        largest = float((wanted - found).abs().max() / wanted.abs().max().clamp(min=1e-12))
        return largest if math.isfinite(largest) else math.inf

    def check(self, name: str, got: Tensor) -> None:
        """Raises AssertionError if a result is further from the expected one than the case tolerates."""
        error, tolerance = self.error(name, got), self.tolerance(name)
        assert error <= tolerance, f"{self.name} {name}: {error:.2e} > {tolerance:.0e}"

    def check_all(self, results: Iterable[tuple[str, Tensor]]) -> None:
        """Raises AssertionError if one of the results, by name, is too far from the expected one."""
        for name, got in results:
            self.check(name, got)


def oracle_folder() -> Path:
    """Returns the folder of the oracle: the first one of `FOLDERS` that exists."""
    return next(folder for folder in FOLDERS if folder.exists())


def load_case(root: Path, name: str) -> Case:
    """Returns a case of the oracle in the folder `root`. For a single file, the expected tensors are those of the
    models that it holds, as `model.tensor`.

    Raises FileNotFoundError if the folder lacks the case.
    """
    folder = root / name
    document = json.loads((folder / "case.json").read_text(encoding="utf-8"))

    def read(part: str) -> dict[str, Tensor]:
        return load_file(folder / part) if (folder / part).exists() else {}

    expected = read("expected.safetensors")
    if name.startswith("single_file"):
        for key, facts in document["models"].items():
            expected |= {f"{key}.{tensor}": value for tensor, value in load_file(root / facts["weights"]).items()}
    return Case(root, name, document, read("inputs.safetensors"), expected)
