"""The command `askstream`. Heavy modules are imported late, so that `--help` answers at once."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"askstream {version('askstream')}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Puts a team of agents on the web, over SSE and WebSocket, and never loses a run."""


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [ASKSTREAM_HOST; 127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 chooses a free one [ASKSTREAM_PORT; 8000].")] = None,
    team: Annotated[
        str | None,
        typer.Option(
            help="Your own AutoGen team: package.module:name, file.py, file.py:name or team.json [ASKSTREAM_TEAM]."
        ),
    ] = None,
    orchestrator: Annotated[
        str | None,
        typer.Option(help="Answers instead of a team: package.module:attribute [ASKSTREAM_ORCHESTRATOR]."),
    ] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Path that a proxy strips, such as /ai [ASKSTREAM_ROOT_PATH].")
    ] = None,
    auth: Annotated[
        str | None,
        typer.Option(
            help="Who needs a token: auto (all but this machine), token, none, jwt, or your own "
            "package.module:function [ASKSTREAM_AUTH; auto]."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder [ASKSTREAM_DATA; .askstream].")] = None,
) -> None:
    """Serve the page, the API and the team."""
    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "team": team,
        "orchestrator": orchestrator,
        "root_path": root_path,
        "auth": auth,
        "data": data,
    }
    _serve(_settings(given))


Data = Annotated[Path | None, typer.Option(help="Data folder [ASKSTREAM_DATA; .askstream].")]


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="Where to write the copy. An earlier one is replaced.")],
    data: Data = None,
) -> None:
    """Copy the journal into one file, while the server runs or when it doesn't."""
    from askstream.server.events.errors import JournalError
    from askstream.server.journal.sqlite.backup import back_up

    settings = _settings({"data": data})
    try:
        size = back_up(settings.journal_url, file)
    except (JournalError, ValueError) as problem:
        _fail(str(problem))
    else:
        typer.echo(f"{file}: {size:,} bytes")


tokens = typer.Typer(no_args_is_help=True, help="Tokens for people and programs on other machines.")
app.add_typer(tokens, name="tokens")


@tokens.command("add")
def add_token(
    name: Annotated[str, typer.Argument(help="The principal: its runs are its own.")],
    admin: Annotated[bool, typer.Option("--admin", help="May also list, show and cancel the runs of others.")] = False,
    data: Data = None,
) -> None:
    """Make a token and print it. It can't be shown again: the file has only its hash."""
    with _reporting():
        typer.echo(_tokens(data).add(name, admin=admin))


@tokens.command("list")
def list_tokens(data: Data = None) -> None:
    """List the names that have a token."""
    keys = _tokens(data).keys()
    for key in keys:
        typer.echo(f"{key.name}{' admin' if key.admin else ''}")


@tokens.command("revoke")
def revoke_token(
    name: Annotated[str, typer.Argument(help="All of its tokens, cookies and tickets end.")], data: Data = None
) -> None:
    """Revoke a name's tokens. A running server notices, and ends their streams within 15 s."""
    with _reporting():
        removed = _tokens(data).revoke(name)
    if not removed:
        _fail(f"there is no token for {name!r}; `askstream tokens list` lists the names")


def _tokens(data: Path | None) -> Any:
    from askstream.server.auth.setup import tokens_of

    settings = _settings({"data": data})
    return tokens_of(settings.data, settings.tokens_file)


@contextmanager
def _reporting() -> Generator[None]:
    try:
        yield
    except ValueError as problem:
        _fail(str(problem))
    except OSError as problem:
        _fail(f"{problem.filename}: {problem.strerror}")


def _settings(given: dict[str, Any]) -> Any:
    """Return the settings: the options that were given, else the environment's."""
    from pydantic import ValidationError

    from askstream.server.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as problem:
        errors = problem.errors(include_input=False, include_url=False)
        _fail("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors))


def _serve(settings: Any) -> None:
    import gc

    gc.disable()  # until the server listens: imported objects stay, so a collection would find nothing

    from askstream.server import console, process, telemetry
    from askstream.server.events.errors import AskstreamError

    try:
        telemetry.configure(
            settings.log_level,
            settings.log_file,
            libraries=settings.log_libraries,
            file_bytes=settings.log_file_bytes,
            files=settings.log_files,
        )
        with process.listen(settings.host, settings.port, stalled_seconds=settings.send_seconds) as listening:
            process.run(process.serve(settings, listening, lambda app: console.say(process.greeting(listening, app))))
    except (process.AddressInUse, AskstreamError, ValueError, OSError) as problem:
        _fail(str(problem))


def _fail(message: str) -> NoReturn:
    from askstream.server import console

    console.say(f"askstream: {message}", error=True)
    raise typer.Exit(1)


def main() -> None:
    from askstream.server import console

    console.open_standard_files()
    app()
