"""Problems of a request in fal's `detail` form."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from longtake.endpoints import ENDPOINTS, ltx23, ltxv098
from longtake.endpoints.validation import MOST_PROBLEMS, parse, problem, problems
from longtake.errors import MOST_ECHOED, InvalidRequest, echo

GOOD = {"prompt": "a cat", "video": {"video_url": "https://example.com/a.mp4"}}


def test_a_good_request_has_no_problems() -> None:
    assert problems(ltxv098.Request, GOOD) == []


@pytest.mark.parametrize(
    ("data", "loc", "kind"),
    [
        ({}, ["body", "prompt"], "missing"),
        ({**GOOD, "prompt": ""}, ["body", "prompt"], "string_too_short"),
        ({**GOOD, "prompt": 1}, ["body", "prompt"], "string_type"),
        ({**GOOD, "num_frames": 8}, ["body", "num_frames"], "greater_than_equal"),
        ({**GOOD, "num_frames": "many"}, ["body", "num_frames"], "int_parsing"),
        ({**GOOD, "seed": 2**64}, ["body", "seed"], "value_error"),
        ({**GOOD, "resolution": "8k"}, ["body", "resolution"], "literal_error"),
        (
            {**GOOD, "video": {"video_url": "x", "start_frame_num": 3}},
            ["body", "video", "start_frame_num"],
            "multiple_of",
        ),
        ({**GOOD, "loras": [{"scale": 9}]}, ["body", "loras", 0, "path"], "missing"),
        ({**GOOD, "video": {"video_url": "x", "strength": math.inf}}, ["body", "video", "strength"], "less_than_equal"),
        ([], ["body"], "model_type"),
        (None, ["body"], "model_type"),
    ],
)
def test_each_problem_has_its_path_and_the_type_of_pydantic(data: Any, loc: list[Any], kind: str) -> None:
    found = problems(ltxv098.Request, data)[0]
    assert (found["loc"], found["type"]) == (loc, kind)
    assert found["url"] == f"https://docs.fal.ai/errors#{kind}"
    assert found["msg"]
    assert set(found) <= {"loc", "msg", "type", "url", "input", "ctx"}
    assert found.get("ctx", True)


@pytest.mark.parametrize(("data", "loc"), [([], ["body"]), (7, ["body"]), ({**GOOD, "video": "x"}, ["body", "video"])])
def test_what_is_no_object_is_told_without_names_of_classes(data: Any, loc: list[str]) -> None:
    (found,) = problems(ltxv098.Request, data)
    assert (found["loc"], found["msg"]) == (loc, "Input should be a valid dictionary")
    assert "ctx" not in found


def test_the_path_of_a_union_field_has_no_tags() -> None:
    data = {"prompt": "a", "video_url": "b", "video_size": {"width": 1, "height": 512}}
    assert [one["loc"] for one in problems(ltx23.Request, data)] == [["body", "video_size", "width"]]
    data["video_size"] = "huge"
    assert [one["loc"] for one in problems(ltx23.Request, data)] == [["body", "video_size"]]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=20,
)


@given(anything)
def test_an_echoed_value_is_json(value: Any) -> None:
    json.dumps(echo(value), allow_nan=False, ensure_ascii=False).encode()


def test_an_echoed_value_is_bounded() -> None:
    nested: Any = "x" * 10**6
    for _ in range(3):
        nested = {"a": [nested] * 2000}
    assert len(json.dumps(echo(nested))) < 60 * 60 * MOST_ECHOED
    assert len(echo("x" * 10**6)) == MOST_ECHOED + 3
    assert echo(10**5000).startswith("an integer of")
    assert echo("\ud800") == "?"


def test_an_entry_repeats_a_short_object_and_no_long_one() -> None:
    short, long = {"a": ["\0" * 2000]}, {"a": ["x" * 900] * 20}
    assert problem(loc=("x",), msg="", type="missing", input=short)["input"] == {"a": ["\0" * MOST_ECHOED + "..."]}
    assert problem(loc=("x",), msg="", type="missing", input=long)["input"] == "..."


@given(data=st.dictionaries(st.sampled_from(["prompt", "video", "video_url", "seed", "num_frames", "loras"]), anything))
def test_problems_of_any_input_are_json(data: dict[str, Any]) -> None:
    """Every input goes to every endpoint: drawing one takes far longer than checking it."""
    for endpoint in ENDPOINTS.values():
        json.dumps(problems(endpoint.Request, data), allow_nan=False)


def test_only_the_first_problems_are_reported() -> None:
    class Numbers(BaseModel):
        numbers: list[int]

    many = {"numbers": ["x"] * (MOST_PROBLEMS + 7)}
    found = problems(Numbers, many)
    assert len(found) == MOST_PROBLEMS + 1
    assert found[-1]["type"] == "too_many_problems"
    assert found[-1]["msg"] == "There are 7 more problems."
    with pytest.raises(InvalidRequest, match="There are 7 more problems") as failure:
        parse(Numbers, many)
    assert failure.value.message.count("numbers.") == MOST_PROBLEMS
    assert len(problems(Numbers, {"numbers": ["x"] * MOST_PROBLEMS})) == MOST_PROBLEMS
