"""How requests name LoRAs: what may be on the hub, and the address of a LoRA there."""

import pytest

from longtake.models.lora_names import MOST_NAME, Lora, hub_url, is_hub_url, lora_at, may_be_repository


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("owner/style", True),
        ("owner/style.v2", True),
        ("owner/style.safetensors", False),
        ("owner/a/b", False),
        ("owner/..x", False),
        ("owner--style/x", False),
        ("/style", False),
        ("style", False),
        ("https://example.com/a", False),
    ],
)
def test_which_paths_may_be_repositories(path: str, expected: bool) -> None:
    assert may_be_repository(path) == expected


@pytest.mark.parametrize("name", [None, "", "a.safetensors", "sub/ä b%20?.safetensors", "half \ud800"])
def test_an_address_names_the_same_lora(name: str | None) -> None:
    url = hub_url(Lora("owner/style", name))
    assert is_hub_url(url)
    assert url.isascii()
    assert lora_at(url) == Lora("owner/style", name)


def test_an_address_is_never_too_long_for_the_queue() -> None:
    assert len(hub_url(Lora("owner/style", "\U0001f600" * (2 * MOST_NAME)))) < 10_000


def test_a_url_is_the_path_of_its_lora() -> None:
    assert lora_at("https://example.com/a.safetensors") == Lora("https://example.com/a.safetensors")
