"""Variables as shells, compose files and clusters set them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from askstream.server.settings import Settings, warnings

DEFAULTS = Settings()


@pytest.mark.parametrize(
    ("text", "origins"),
    [
        ("https://a.example", ("https://a.example",)),
        ("https://a.example, https://b.example", ("https://a.example", "https://b.example")),
        (" https://a.example\nhttps://b.example ,", ("https://a.example", "https://b.example")),
        ('["https://a.example"]', ("https://a.example",)),
        ("*", ("*",)),
        ("", DEFAULTS.cors_origins),
    ],
)
def test_a_list_may_be_plain_words_or_json(
    monkeypatch: pytest.MonkeyPatch, text: str, origins: tuple[str, ...]
) -> None:
    """With commas or white space between the words."""
    monkeypatch.setenv("ASKSTREAM_CORS_ORIGINS", text)
    assert Settings().cors_origins == origins


@pytest.mark.parametrize("name", ["ASKSTREAM_TRANSPORTS", "ASKSTREAM_MODEL_INFO"])
def test_json_that_is_none_is_reported(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It isn't taken for a word."""
    monkeypatch.setenv(name, '["sse"')
    with pytest.raises(ValidationError, match="expected JSON"):
        Settings()


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_an_empty_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    """Every one: shells and compose files leave variables empty."""
    monkeypatch.setenv(f"ASKSTREAM_{field.upper()}", "")
    assert Settings() == DEFAULTS


def test_a_misspelt_variable_is_named_with_the_nearest_one() -> None:
    """Variables of other programs, and settings in any case, aren't."""
    environment = {
        "ASKSTREAM_PROT": "1", "ASKSTREAM_OPENAI_API_KEY": "1", "ASKSTREAM_XYZZY": "1", "ASKSTREAM_PORT": "1",
        "askstream_data": "1", "ASKSTREAM_LOG_LEVEL": "INFO", "PROT": "1", "MY_ASKSTREAM_PROT": "1",
    }  # fmt: skip
    assert warnings(environment) == [
        "there is no setting ASKSTREAM_OPENAI_API_KEY; did you mean OPENAI_API_KEY?",
        "there is no setting ASKSTREAM_PROT; did you mean ASKSTREAM_PORT?",
        "there is no setting ASKSTREAM_XYZZY",
    ]


def test_what_kubernetes_sets_for_a_service_is_no_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """One warning says so; the other variables of the service are no settings of anybody's."""
    environment = {
        "ASKSTREAM_PORT": "tcp://10.0.0.1:8000", "ASKSTREAM_SERVICE_HOST": "10.0.0.1", "ASKSTREAM_SERVICE_PORT": "8000",
        "ASKSTREAM_SERVICE_PORT_HTTP": "8000", "ASKSTREAM_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "ASKSTREAM_PORT_8000_TCP_ADDR": "10.0.0.1",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings().port == 8000
    (sentence,) = warnings(environment)
    assert sentence.startswith("ASKSTREAM_PORT is 'tcp://10.0.0.1:8000', which Kubernetes sets")


def test_the_journals_url_names_the_very_file(tmp_path: Path) -> None:
    """The data folder may have any characters."""
    data = tmp_path / "a #?%41"
    assert Settings(data=data).journal_url == f"sqlite:///{data}/askstream.db"
