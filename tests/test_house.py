"""docs/house.md shows the tree that there is: every file once, with its line, and the rooms' true imports."""

import subprocess

import pytest

from tests import house


def test_the_page_is_current() -> None:
    assert house.PAGE.read_text() == house.page(), "run `python -m tests.house > docs/house.md`"


@pytest.mark.parametrize("path", house.paths())
def test_every_module_has_a_line(path: str) -> None:
    assert house.first_sentence(house.parsed(house.SOURCE / path)).endswith(".")


def test_every_tracked_file_of_the_package_is_a_module_or_described() -> None:
    listing = subprocess.run(["git", "ls-files", house.SOURCE], cwd=house.ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("this is no git checkout")
    below = f"{house.SOURCE.relative_to(house.ROOT).as_posix()}/"
    files = [name.removeprefix(below) for name in listing.stdout.split()]
    described = tuple(house.FILES)
    assert [name for name in files if name not in house.paths() and not name.startswith(described)] == []
    assert [name for name in described if not any(file.startswith(name) for file in files)] == []
