"""The command `askstream`. Heavy modules are imported late, so that `--help` answers at once."""

from pathlib import Path
from typing import Annotated, Any

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
        str | None, typer.Option(help="Your own AutoGen team: package.module:factory [ASKSTREAM_TEAM].")
    ] = None,
    orchestrator: Annotated[
        str | None,
        typer.Option(help="Answers instead of a team: package.module:attribute [ASKSTREAM_ORCHESTRATOR]."),
    ] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Path that a proxy strips, such as /ai [ASKSTREAM_ROOT_PATH].")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Data folder [ASKSTREAM_DATA; .askstream].")] = None,
) -> None:
    """Serve the page, the API and the team."""
    from pydantic import ValidationError

    from askstream.server.settings import Settings

    given: dict[str, Any] = {
        "host": host,
        "port": port,
        "team": team,
        "orchestrator": orchestrator,
        "root_path": root_path,
        "data": data,
    }
    try:
        _serve(Settings(**{name: value for name, value in given.items() if value is not None}))
    except ValidationError as problem:
        errors = problem.errors(include_input=False, include_url=False)
        _fail("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in errors))


def _serve(settings: Any) -> None:
    import gc

    gc.disable()  # until the server listens: imported objects stay, so a collection would find nothing

    from askstream.server import process, telemetry
    from askstream.server.events.errors import AskstreamError

    try:
        telemetry.configure(settings.log_level, settings.log_file, libraries=settings.log_libraries)
        listening = process.listen(settings.host, settings.port, stalled_seconds=settings.send_seconds)
        process.run(process.serve(settings, listening, lambda app: typer.echo(process.greeting(listening, app.model))))
    except (process.AddressInUse, AskstreamError, ValueError) as problem:
        _fail(str(problem))


def _fail(message: str) -> None:
    typer.echo(f"askstream: {message}", err=True)
    raise typer.Exit(1)


def main() -> None:
    app()
