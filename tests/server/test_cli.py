"""The command without serving: it prints its version, and one line for a wrong setting."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from askstream.server.cli import app


def test_it_prints_its_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"askstream {version('askstream')}\n")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("ASKSTREAM_TRANSPORTS", '["sse"', """transports: Value error, expected JSON, .* got '."sse"'"""),
        ("ASKSTREAM_MODEL_INFO", "{", "model_info: Value error, expected JSON, .* got '{'"),
        ("ASKSTREAM_MODEL_OPTIONS", "max_tokens=5", "model_options: Value error, expected JSON, .* got 'max_tokens=5'"),
        (
            "ASKSTREAM_MODEL_OPTIONS",
            '{"max_token": 5}',
            "ASKSTREAM_MODEL_OPTIONS has no 'max_token': did you mean 'max",
        ),
        ("ASKSTREAM_MODEL_INFO", '{"function_caling": true}', "has no 'function_caling': did you mean 'function_calli"),
        ("ASKSTREAM_MODEL_INFO", '{"function_calling": false}', "bundled team needs a model that can call tools"),
        ("ASKSTREAM_MESSAGES", "many", "messages: "),
        ("ASKSTREAM_LOG_FILE", "{file}/server.log", "expected ASKSTREAM_LOG_FILE to be .*server.log"),
        ("LOG_LEVEL", "LOUD", "LOG_LEVEL"),
    ],
)
def test_a_wrong_setting_ends_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    """It names the setting and what to do, without a traceback."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value.replace("{file}", str(tmp_path / "file")))
    done = CliRunner().invoke(app, ["serve", "--port", "0"])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    (line,) = done.stderr.splitlines()
    assert line.startswith("askstream: ")
    assert re.search(words, line)
