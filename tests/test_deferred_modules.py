"""Large modules run when they are first used: a process that loads a model runs none, and each works afterwards."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from longtake import deferred_modules as module
from longtake.deferred_modules import deferred_modules

MODELS = """
import sys
from importlib import import_module
from longtake.deferred_modules import DEFERRED
from longtake.imports import importing_models
with importing_models():
    import diffusers, transformers
    classes = (
        diffusers.AutoencoderKLLTXVideo, diffusers.LTXVideoTransformer3DModel, transformers.T5EncoderModel,
        diffusers.AutoencoderKLLTX2Video, diffusers.AutoencoderKLLTX2Audio, diffusers.LTX2VideoTransformer3DModel,
        transformers.Gemma3ForConditionalGeneration, transformers.AutoTokenizer,
    )
    from transformers.loss.loss_for_object_detection import linear_sum_assignment
    import scipy.integrate, scipy.stats
ran = [name for name in DEFERRED if type(sys.modules[name]).__name__ != "_Deferred"]
assert not ran, ran
assert list(linear_sum_assignment([[1, 0], [0, 1]])[1]) == [1, 0]
assert scipy.stats.beta.ppf(0.5, 2, 2) == 0.5
assert scipy.integrate.quad(float, 0, 1)[0] == 0.5
assert diffusers.models.autoencoders.AutoencoderKLLTXVideo is classes[0]
assert diffusers.models.transformers.LTXVideoTransformer3DModel is classes[1]
assert diffusers.models.unets.UNet2DModel.__name__ == "UNet2DModel"
assert transformers.models.t5.T5EncoderModel is classes[2]
"""
"""What both families import, and the attributes of deferred modules that are read then."""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the package `large_package`, which is deferred, with the function `count` and one submodule."""
    folder = tmp_path / "large_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("import small_module\nsmall_module.ran += 1\ndef count():\n    return 3\n")
    (folder / "inner.py").write_text("value = 5\n")
    (tmp_path / "small_module.py").write_text("ran = 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(module, "DEFERRED", {"large_package": ("count",)})
    yield folder
    for name in ("large_package", "large_package.inner", "small_module"):
        sys.modules.pop(name, None)


def runs() -> int:
    """Returns how often the code of the package has run."""
    return int(import_module("small_module").ran)


def test_a_deferred_package_runs_once_when_an_attribute_is_read(package: Path) -> None:
    with deferred_modules():
        import large_package  # type: ignore[import-not-found]
        import large_package.inner  # type: ignore[import-not-found]
    assert large_package.inner.value == 5
    assert runs() == 0
    assert large_package.small_module.ran == runs() == 1
    assert import_module("large_package") is large_package
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = large_package.nothing
    assert runs() == 1


def test_a_function_that_is_imported_by_name_runs_the_package_when_it_is_called(package: Path) -> None:
    with deferred_modules():
        from large_package import count
    assert runs() == 0
    assert (count(), count()) == (3, 3)
    assert runs() == 1


def test_outside_the_block_and_for_other_names_modules_run_at_once(package: Path) -> None:
    with deferred_modules():
        import_module("small_module")
    assert runs() == 0
    import_module("large_package")
    assert runs() == 1


def test_an_attribute_that_the_package_reads_of_itself_is_missing_and_not_run_again(package: Path) -> None:
    (package / "__init__.py").write_text("import large_package, small_module\nsmall_module.ran += 1\nlarge_package.x\n")
    with deferred_modules():
        import large_package
    with pytest.raises(AttributeError, match="no attribute 'x'"):
        _ = large_package.y
    assert runs() == 1


def test_a_package_that_puts_another_module_into_its_place_is_read_there(package: Path) -> None:
    (package / "__init__.py").write_text(
        "import sys, types\nsys.modules[__name__] = types.SimpleNamespace(y=7, __spec__=__spec__)\n"
    )
    with deferred_modules():
        import large_package
    assert (large_package.y, import_module("large_package").y) == (7, 7)


def test_a_package_that_fails_is_imported_again(package: Path) -> None:
    code = (package / "__init__.py").read_text()
    (package / "__init__.py").write_text("raise OSError('broken')\n")
    with deferred_modules():
        import large_package
    with pytest.raises(OSError, match="broken"):
        large_package.count()
    (package / "__init__.py").write_text(code + "# whole again\n")
    assert import_module("large_package").count() == 3


def test_a_process_that_loads_a_model_runs_none_of_them_and_each_works_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", MODELS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
