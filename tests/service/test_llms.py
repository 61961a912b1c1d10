"""The description of each endpoint for language models."""

import json
import re

import pytest

from longtake.endpoints import ENDPOINTS
from longtake.service.llms import description


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_plain_text_names_every_field_and_an_example(endpoint: str) -> None:
    text = description(endpoint)
    assert f"POST {{server}}/queue/{endpoint};" in text
    for name, field in ENDPOINTS[endpoint].Request.model_fields.items():
        assert f"- `{name}` (" in text
        assert not field.is_required() or re.search(rf"`{name}` \([^\n]*required", text)
    example = json.loads(text.rpartition("-d '")[2].rpartition("'")[0])
    ENDPOINTS[endpoint].Request.model_validate(example)
