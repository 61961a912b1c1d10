"""docs/server.md agrees with the program."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from longtake.access.signing import Signer
from longtake.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "server.md").read_text()


def test_the_table_lists_every_setting_with_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(re.findall(r"^\| `(LONGTAKE_\w+)` \|([^|]*)\|", PAGE, re.MULTILINE))
    names = list(Settings.model_fields)
    wanted = names[names.index("data_dir") : names.index("log_format") + 1]
    wanted += [name for name in names if name.startswith("max_") and name not in wanted]
    assert set(rows) == {f"LONGTAKE_{name.upper()}" for name in wanted}
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    for name in wanted:
        default: Any = getattr(Settings(), name)
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = "" if default is None else str(default).replace("False", "false")
        listed = rows[f"LONGTAKE_{name.upper()}"].strip(" `").replace("~", str(Path.home()))
        assert listed == shown.removesuffix(".0"), name


def test_the_receivers_code_accepts_only_valid_signatures(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    signer = Signer(tmp_path)
    published = tmp_path / "jwks.json"
    published.write_text(json.dumps(signer.jwks()))
    names: dict[str, Any] = {}
    exec(code, names)
    names["JWKS_URL"] = published.as_uri()
    headers = signer.headers("r", "u", b"{}")
    assert names["verified"](headers, b"{}")
    assert not names["verified"](headers, b"{ }")
    assert not names["verified"](signer.headers("r", "u", b"{}", now=1_700_000_000), b"{}")
    assert not names["verified"](Signer(tmp_path / "other").headers("r", "u", b"{}"), b"{}")


def test_the_pictures_exist() -> None:
    for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / picture).is_file()
