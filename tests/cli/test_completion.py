"""What a shell offers when the user completes an option or a value."""

import shlex
from typing import Any

import pytest
from typer.testing import CliRunner

from longtake.cli import app
from longtake.endpoints import ENDPOINTS, Endpoint
from longtake.models.registry import CARDS
from longtake.parameters import parameters
from tests.cli.calls import named


def completed(line: str, shell: str = "bash") -> list[str]:
    """Returns what a shell offers for the last word of a line; an empty last word if the line ends with a blank."""
    words = line.split(" ")
    variables = {"_LONGTAKE_COMPLETE": f"complete_{shell}", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = CliRunner().invoke(app, [], prog_name="longtake", env={**variables, "_TYPER_COMPLETE_ARGS": line})
    return done.stdout.splitlines()


def test_a_shell_completes_options_of_the_chosen_endpoint() -> None:
    assert completed("longtake extend a.mp4 --endpoint 2.3 --camera") == ["--camera-lora", "--camera-lora-scale"]


def test_a_shell_completes_endpoints_and_models() -> None:
    names = [one.name for one in ENDPOINTS.values()]
    assert completed("longtake plan a.mp4 --endpoint ") == names
    assert completed("longtake extend --endpoint fal-ai/ltx-2.3-q") == ["fal-ai/ltx-2.3-quality/extend-video"]
    assert completed("longtake extend --model ltx2") == ["ltx2-tiny"]
    assert completed("longtake models check ") == list(CARDS)
    published = [name for name, card in CARDS.items() if not card.embedded]
    assert completed("longtake models pull ") == completed("longtake models rm ") == published


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=named)
def test_a_shell_completes_the_values_of_every_option_that_lists_them(endpoint: Endpoint[Any, Any]) -> None:
    listed = [one for one in parameters(endpoint.id) if one.choices]
    assert listed
    for one in listed:
        values = completed(f"longtake extend a.mp4 --endpoint {endpoint.name} {one.flag} ")
        assert [shlex.split(value) for value in values] == [[str(name)] for name in one.names]


def test_a_value_with_special_characters_is_escaped_for_bash_only() -> None:
    line = "longtake extend a.mp4 --endpoint 2.3 --video-output-type X2"
    assert completed(line) == [r"X264\ \(.mp4\)"]
    assert completed(line, "zsh") == ["_arguments '*: :((\"X264 (.mp4)\"))'"]
