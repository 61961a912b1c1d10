"""README, CHANGELOG and docs: every link leads somewhere, and every file that they name exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
BASES = [ROOT, ROOT / "src" / "longtake", ROOT / "src" / "longtake" / "families"]
"""Folders that a file named in a page may be relative to."""

LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE_FILE = re.compile(r"`([\w*./-]+\.(?:py|mjs|md))`")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        name, _, anchor = link.partition("#")
        if ":" in name:
            continue
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_source_file_named_exists(page: Path) -> None:
    named = [name for name in SOURCE_FILE.findall(page.read_text()) if "/" in name]
    assert [name for name in named if not any(any(base.glob(name)) for base in BASES)] == []


def test_the_table_of_the_worker_names_its_modules() -> None:
    page = (ROOT / "docs" / "queue.md").read_text()
    table = page[page.index("| module of `worker/` |") :].split("\n\n")[0]
    named = {name for row in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    modules = {path.stem for path in (ROOT / "src/longtake/worker").glob("*.py")}
    assert len(named) > 10
    assert named <= modules


def test_pictures_and_clips_are_small_together() -> None:
    folders = (ROOT / "docs", ROOT / "examples", ROOT / "src" / "longtake" / "service" / "static")
    kinds = {".gif", ".jpg", ".mp4", ".png", ".webm", ".webp"}
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in kinds]
    assert len(files) > 20
    assert sum(path.stat().st_size for path in files) <= 4_000_000
