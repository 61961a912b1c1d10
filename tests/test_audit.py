"""The audit: what counts as a pass, and what the bill of materials lists."""

from pathlib import Path
from typing import Any

import pytest

from tests.audit import ROOT, SKIPPED, audit, development_tools, verdict, without_tools

SKIPPED_PACKAGE = {"name": "one", "skip_reason": "Dependency not found on PyPI and could not be audited: one (1.0)"}
GOOD = {"name": "two", "version": "2.0", "vulns": []}
BAD = {"name": "three", "version": "3.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["3.1"]}]}


def test_an_audit_of_nothing_is_a_skip_that_says_so() -> None:
    assert verdict({"dependencies": [SKIPPED_PACKAGE]}) == (
        True,
        [f"{SKIPPED}: 0 of 1 packages were audited, because their index was not reached."],
    )


def test_packages_that_were_not_audited_are_named() -> None:
    assert verdict({"dependencies": [SKIPPED_PACKAGE, GOOD]}) == (
        True,
        ["not audited: one", "1 packages were audited; 0 problems are known."],
    )


def test_a_known_vulnerability_fails() -> None:
    is_good, lines = verdict({"dependencies": [GOOD, BAD]})
    assert not is_good
    assert lines[0] == "three 3.0 has CVE-2026-1; fixed in: 3.1"


def test_missing_tools_are_a_skip_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(tmp_path)
    assert capsys.readouterr().out.startswith(SKIPPED)


def test_a_bill_of_materials_lists_what_runs_and_not_the_tools() -> None:
    edges = {"root": ["web", "tester"], "web": ["shared"], "tester": ["shared", "colours"], "shared": [], "colours": []}
    document: dict[str, Any] = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [{"bom-ref": name, "name": name} for name in edges if name != "root"],
        "dependencies": [{"ref": name, "dependsOn": needed} for name, needed in edges.items()],
    }
    kept = without_tools(document, ["tester"])
    assert [entry["name"] for entry in kept["components"]] == ["web", "shared"]
    assert {entry["ref"]: entry["dependsOn"] for entry in kept["dependencies"]} == {
        "root": ["web"],
        "shared": [],
        "web": ["shared"],
    }


def test_the_tools_of_development_are_those_of_the_project() -> None:
    assert {"pytest", "ruff", "fal-client"} <= set(development_tools())
    assert "av" not in development_tools()
    assert (ROOT / "constraints.txt").exists()
