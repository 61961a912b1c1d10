"""Audits the pinned packages, and lists what an installed longtake consists of: `python -m tests.audit TOOLS SBOM`.

TOOLS is the folder of the programs `pip-audit` and `cyclonedx-py`. SBOM is the file for the software bill of materials,
in CycloneDX's JSON. `make check` runs this. The exit status is 1 if a package has a known vulnerability.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
SKIPPED = "SKIPPED, not passed"
LONGEST_S = 600
"""Longest audit in seconds. Without network it can wait for each package."""


def verdict(report: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Returns whether a report of pip-audit (its JSON) names no vulnerability, and lines that say what was audited.

    Packages that were not audited are named. pip-audit calls it a success if there are no others, as without network.
    """
    packages: Sequence[Mapping[str, Any]] = report["dependencies"]
    audited = [package for package in packages if "skip_reason" not in package]
    others = [package["name"] for package in packages if "skip_reason" in package]
    if not audited:
        return True, [f"{SKIPPED}: 0 of {len(packages)} packages were audited, because their index was not reached."]
    found = [
        f"{package['name']} {package['version']} has {problem['id']}; fixed in: {', '.join(problem['fix_versions'])}"
        for package in audited
        for problem in package["vulns"]
    ]
    missing = [f"not audited: {', '.join(others)}"] if others else []
    return not found, [*found, *missing, f"{len(audited)} packages were audited; {len(found)} problems are known."]


def without_tools(document: dict[str, Any], tools: Sequence[str]) -> dict[str, Any]:
    """Returns a bill of materials (CycloneDX's JSON) without the packages that only development needs.

    `tools`: the names of the packages that the project itself needs for development only.
    """
    edges = {entry["ref"]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    names = {entry["bom-ref"]: canonicalize_name(entry["name"]) for entry in document["components"]}
    root = document["metadata"]["component"]["bom-ref"]
    edges[root] = [ref for ref in edges[root] if names[ref] not in tools]
    needed, found = {root}, [root]
    while found:
        found = [ref for each in found for ref in edges[each] if ref not in needed]
        needed.update(found)
    return document | {
        "components": [entry for entry in document["components"] if entry["bom-ref"] in needed],
        "dependencies": [{"ref": ref, "dependsOn": edges[ref]} for ref in sorted(edges) if ref in needed],
    }


def development_tools() -> list[str]:
    """Returns the names of the packages in the project's extra `dev`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [canonicalize_name(Requirement(text).name) for text in project["optional-dependencies"]["dev"]]


def audit(tools: Path) -> bool:
    """Audits the packages that `constraints.txt` pins, and prints the result. Returns False if one is vulnerable."""
    pinned = ROOT / "constraints.txt"
    command = [str(tools / "pip-audit"), "--requirement", str(pinned), "--no-deps", "--disable-pip", "--format=json"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S)
    except FileNotFoundError:
        print(f"{SKIPPED}: pip-audit is not installed in {tools}.")
        return True
    except subprocess.TimeoutExpired:
        print(f"{SKIPPED}: pip-audit did not end within {LONGEST_S} seconds.")
        return True
    try:
        report = json.loads(ended.stdout)
    except ValueError:
        print(f"{SKIPPED}: pip-audit reported nothing: {(ended.stderr.strip() or '-').splitlines()[-1]}")
        return True
    is_good, lines = verdict(report)
    print("\n".join(lines))
    return is_good


def write_sbom(tools: Path, target: Path) -> None:
    """Writes the bill of materials of what this Python environment holds, without the tools of development."""
    described = ("--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", sys.executable)
    try:
        command = [str(tools / "cyclonedx-py"), "environment", *described]
        written = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        print(f"{SKIPPED}: cyclonedx-py is not installed in {tools}.")
        return
    document = without_tools(json.loads(written), development_tools())
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, indent=1))
    print(f"{target} lists {len(document['components'])} packages.")


def main() -> int:
    tools, target = map(Path, sys.argv[1:])
    is_good = audit(tools)
    write_sbom(tools, target)
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
