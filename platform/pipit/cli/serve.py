"""`pipit serve`: the server of a data directory, in the foreground, until SIGINT or SIGTERM.

What it prints at start is short and has no token in it. A project with errors does not take down what is live.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipit import __version__
from pipit.cli.changes import live, show_changes, show_environments
from pipit.cli.instance import (
    TOKEN_FILE,
    ServerFile,
    given_metrics_token,
    given_seals,
    given_urls,
    given_writes_rps,
    hold,
    keep_previous_hours,
    keep_token,
    remove_server,
    server_token,
    write_server,
)
from pipit.cli.logs import log_to
from pipit.cli.options import DataOption, GlobalOptions, examples, resolve
from pipit.cli.output import count, err, line, note, show_error, show_warnings, waiting
from pipit.cli.project import read_files
from pipit.cli.target import naming, run
from pipit.errors import DatafileError, PipitError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from pipit.api.listen import Listener
    from pipit.catalog.sealing import Seals
    from pipit.catalog.snapshot import Snapshot
    from pipit.datafiles.resources import Project as Files
    from pipit.server import Server

log = logging.getLogger("pipit.cli")

DEFAULT_PORT = 7181
# A command that holds the directory for a moment is waited for; a server is not.
_PATIENCE_SECONDS = 15.0
_WRITE_AGAIN_SECONDS = 2.0


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Settings:
    options: GlobalOptions
    project: Path | None  # absolute
    host: str
    port: int
    watch: bool
    demo: bool
    weaker: bool = False
    log_format: LogFormat = LogFormat.TEXT

    @property
    def client_host(self) -> str:
        """An address that a client on this machine can use."""
        host = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host


def add_to(app: typer.Typer) -> None:
    app.command(
        "serve",
        rich_help_panel="Server",
        epilog=examples(
            "pipit serve --watch",
            "pipit serve --project shop --port 8000",
            "# in a container: reachable from outside, data on a volume",
            "pipit serve --project /project --data /data --host 0.0.0.0",
            "# on a ClickHouse server instead of the engine that is built in",
            "PIPIT_CLICKHOUSE_URL=http://user:password@clickhouse:8123/ pipit serve",
        ),
    )(serve)


def serve(
    context: typer.Context,
    project: Annotated[
        Path | None,
        typer.Option(
            help="The project folder to deploy and serve. Default: the current folder, if it holds a project.",
            metavar="DIR",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 for all.", metavar="HOST")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on; 0 for a free one.", metavar="N", min=0, max=65535)
    ] = DEFAULT_PORT,
    watch: Annotated[bool, typer.Option("--watch", help="Deploy whenever a file is saved.")] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="For the demo project: sample events, and a page at /demo.")
    ] = False,
    weaker: Annotated[
        bool,
        typer.Option("--allow-weaker", help="Deploy also what confines tenants less than what is live."),
    ] = False,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="json: the log as JSON lines, all of it on standard error too.")
    ] = LogFormat.TEXT,
    workers: Annotated[int, typer.Option(help="API processes; this version runs one.", metavar="N", min=1)] = 1,
) -> None:
    """Serves the endpoints of a project, and takes in events.

    Deploys the project first if it changed. The engine (ClickHouse) is built in; its data is in the data directory.
    """
    if workers > 1:
        raise typer.BadParameter(
            "this version runs one API process per data directory: events that are not yet in a table are in its hands",
            param_hint="--workers",
        )
    if project is not None and not project.is_dir():
        raise typer.BadParameter(f"{project} is not a folder", param_hint="--project")
    options = resolve(context, data, project=project)
    if project is None and _is_project_here():
        project = Path()
    if watch and project is None:
        raise typer.BadParameter("there is no project in the current folder to watch; name one with --project")
    if demo and project is None:
        raise typer.BadParameter("the demo needs its project: run it in a clone of the repository (make demo)")
    if project is not None:
        project = project.resolve()
        note(f"Project: {project}")
    with hold(options.data, patience=_PATIENCE_SECONDS):
        code = run(_serve(Settings(options, project, host, port, watch, demo, weaker, log_format)))
    if code:
        raise typer.Exit(code)


def _is_project_here() -> bool:
    """Whether the current folder is a project itself. One that is further down has to be named: it may be anybody's."""
    from pipit.datafiles import read_project
    from pipit.datafiles.layout import FOLDERS

    here = Path.cwd()
    if here == here.parent:
        return False  # the whole disk
    files = read_project(here)
    if not files or any("/" not in name or name.split("/")[0] in FOLDERS for name in files):
        return bool(files)
    below = sorted({name.split("/")[0] for name in files})
    raise typer.BadParameter(
        f"the current folder is no project; there are datafiles in {', '.join(below[:5])}. Name the project: "
        f"--project {below[0]}",
        param_hint="--project",
    )


async def _serve(settings: Settings) -> int:
    from pipit.api.listen import Listener, bind, port_of

    started = time.monotonic()
    options = settings.options
    stop = _on_signals()
    listening = bind(settings.host, settings.port)
    url = f"http://{settings.client_host}:{port_of(listening)}"
    token, token_from = server_token(options.data)
    seals = given_seals()
    secrets = [token, *filter(None, [given_metrics_token()])]
    log_to(options.data / "logs", hide=secrets, lines_of_json=settings.log_format is LogFormat.JSON)
    async with AsyncExitStack() as stack:
        stack.callback(listening.close)
        with waiting("Starting the engine..."):
            server = await _open(stack, settings, token, token_from, seals)
        if stop.is_set():
            return 0
        publisher = None
        if settings.project is not None:
            publisher = Publisher(server, settings.project, watch=settings.watch, allow_weaker=settings.weaker)
        if publisher is not None and not await publisher.publish() and not settings.watch:
            if not server.catalog.default.deployment:
                note("Nothing is deployed yet, so there is nothing to serve. Correct the files, or use --watch.")
                return 1
            note(f"Serving deployment {server.catalog.default.deployment} as it was.")
        listener = Listener(_app(server, settings))
        serving = asyncio.create_task(listener.serve(sockets=[listening]))
        while not listener.started and not serving.done():
            await asyncio.sleep(0.01)
        where = ServerFile(
            url=url,
            host=settings.host,
            port=port_of(listening),
            pid=os.getpid(),
            token_from=token_from,
            started_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
        written = _write_server(options.data, where)
        stack.callback(remove_server, options.data)
        _greet(settings, server, url, token_from, time.monotonic() - started)
        async with _beside(server, publisher, settings, url, stop):
            if not written:
                stack.callback(asyncio.create_task(_write_later(options.data, where)).cancel)
            await _until_stopped(serving, stop)
        note("Stopping...")
        await _drain(listener, serving)
    return 0


async def _open(stack: AsyncExitStack, settings: Settings, token: str, token_from: str, seals: Seals) -> Server:
    from pipit.server import Config, open_server

    data = settings.options.data
    config = Config(
        data_dir=data,
        admin_token=token,
        clickhouse_url=settings.options.clickhouse_url or None,
        keep_admin_token=partial(keep_token, data) if token_from == TOKEN_FILE else None,
        seals=seals,
        connectors=True,
        urls=given_urls(),
        keep_previous_hours=keep_previous_hours(),
        metrics_token=given_metrics_token(),
        writes_rps=given_writes_rps(),
    )
    with naming(settings.options.clickhouse_url):
        return await stack.enter_async_context(open_server(config))


def _write_server(data: Path, where: ServerFile) -> bool:
    """Commands find the server by this file; reads and what is acknowledged do not need it. False: not now."""
    try:
        write_server(data, where)
    except OSError as error:
        log.warning("%s cannot be written: %s", data, error.strerror)
        note(
            f"{data} cannot be written ({error.strerror}): reads are served, events will be refused until there is "
            f"room. Commands find this server with --host {where.url}."
        )
        return False
    return True


async def _write_later(data: Path, where: ServerFile) -> None:
    """As soon as there is room."""
    while True:
        await asyncio.sleep(_WRITE_AGAIN_SECONDS)
        with suppress(OSError):
            write_server(data, where)
            log.info("%s can be written again", data)
            return


def _app(server: Server, settings: Settings) -> Starlette:
    from pipit.api.app import app_for

    if not settings.demo:
        return app_for(server)
    from pipit.cli.sample import routes

    return app_for(server, extra_routes=routes(server, settings.host))


class Publisher:
    """Deploys one project's folder to one server, and prints what comes of it."""

    def __init__(self, server: Server, project: Path, *, watch: bool = False, allow_weaker: bool = False) -> None:
        """With `watch`, on a developer's machine, a project that confines less than before is told and deployed."""
        self._server = server
        self._project = project
        self._watch = watch
        self._allow_weaker = allow_weaker
        self._seen: Mapping[str, str] | None = None

    async def publish(self) -> bool:
        """Deploys the project if it changed; prints the plan, warnings and errors. False: it was refused."""
        from pipit.api.deployments import deployment_object
        from pipit.audit.policy_regression import policy_regressions

        first, self._seen = self._seen is None, None
        catalog, deployer = self._server.catalog, self._server.deployer
        lenient = self._watch or self._allow_weaker
        try:
            files = self._seen = read_files(self._project)
            previous = catalog.beside(catalog.default.workspace.id).previous
            if first and previous and previous.row.id > catalog.default.deployment and previous.row.files == files:
                note(f"Deployment {previous.row.id} was rolled back: the project is not deployed again by a start.")
                return True
            regressions = _tell_weaker if lenient else policy_regressions
            with waiting("Deploying..."):
                outcome = await deployer.deploy(
                    catalog.default.workspace.id, files, allow_weaker=lenient, regressions=regressions
                )
        except PipitError as error:
            show_error(error)
            return False
        found = deployment_object(outcome)
        show_changes(found)
        if outcome.result == "success":
            note(live(found))
        show_environments(found)
        return True

    async def follow(self, stop: asyncio.Event) -> None:
        """Publishes again whenever the files are others than those of the last time, until `stop` is set."""
        from pipit.cli.watch import changes

        async for names in changes(self._project, stop):
            if self._is_as_published():
                continue
            what = ", ".join(names[:3]) or "files changed"
            note(f"\n{time.strftime('%H:%M:%S')} {what}{' and more' if len(names) > 3 else ''}")
            if not await self.publish():
                note("Not deployed; what was live stays live.")

    def _is_as_published(self) -> bool:
        try:
            return read_files(self._project) == self._seen
        except PipitError:
            return False


def _tell_weaker(live: Snapshot, project: Files) -> Sequence[DatafileError]:
    """Warnings, and no error."""
    from pipit.audit.policy_regression import weaker_than_live

    show_warnings(one.warning() for one in weaker_than_live(live, project))
    return ()


def _greet(settings: Settings, server: Server, url: str, token_from: str, seconds: float) -> None:
    snapshot = server.catalog.default
    endpoints = sum(pipe.endpoint is not None for pipe in snapshot.pipes.values())
    data = settings.options.data
    deployed = f"{count(endpoints, 'endpoint')}, {count(len(snapshot.tables), 'data source')}"
    line(err, (f"Pipit {__version__}", "bold"), f" is serving ({seconds:.1f} s)")
    for name, value in (
        ("url", url),
        ("workspace", f"{snapshot.workspace.name}: {deployed}"),
        ("data", str(data)),
        ("admin token", str(data / TOKEN_FILE) if token_from == TOKEN_FILE else f"as in {token_from}"),
        ("log", str(data / "logs" / "pipit.log")),
    ):
        line(err, (f"  {name:<12}", "dim"), value)
    if settings.watch and settings.project is not None:
        line(err, ("  watching    ", "dim"), str(settings.project))


@asynccontextmanager
async def _beside(
    server: Server, publisher: Publisher | None, settings: Settings, url: str, stop: asyncio.Event
) -> AsyncIterator[None]:
    """What runs beside the server: the watcher, the sample events. All of it ends with the context."""
    tasks: list[asyncio.Task[None]] = []
    if settings.watch and publisher is not None:
        tasks.append(asyncio.create_task(_told("Watching the files", publisher.follow(stop))))
    if settings.demo:
        from pipit.cli.sample import stream

        tasks.append(asyncio.create_task(_told("The sample events", stream(server, url, settings.host, stop))))
    try:
        yield
    finally:
        stop.set()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def _told(what: str, work: Coroutine[Any, Any, None]) -> None:
    """Work beside the server: its failure is told, and the server goes on."""
    try:
        await work
    except PipitError as error:
        show_error(error)
        note(f"{what}: stopped by this error; the server goes on.")
    except Exception as error:
        log.exception("%s failed", what)
        note(f"{what}: stopped ({type(error).__name__}, see the log); the server goes on.")


def _on_signals() -> asyncio.Event:
    """Set by SIGINT and SIGTERM. A second one ends the process at once, as its default does."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def first(number: signal.Signals) -> None:
        stop.set()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(one)
            signal.signal(one, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, first, number)
    return stop


async def _until_stopped(serving: asyncio.Task[None], stop: asyncio.Event) -> None:
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()


async def _drain(listener: Listener, serving: asyncio.Task[None]) -> None:
    """No new connections; requests under way get their answers, within the listener's grace."""
    listener.should_exit = True
    await serving
