"""`aiia up`: everything on this machine, until Ctrl-C."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from aiia_pipelines.cli.exits import Exit, Stop
from aiia_pipelines.cli.main import Command
from aiia_pipelines.cli.session import load, output, require_project, started, store
from aiia_pipelines.config.settings import Settings
from aiia_pipelines.local.ports import listens
from aiia_pipelines.local.services import AlreadyUp, Running, Service, Supervisor, port_taken
from aiia_pipelines.local.warm import is_ready
from aiia_pipelines.local.web import answers

_CODE_PORT_OFFSET = 1
_READY = 60.0  # seconds


@click.command("up", cls=Command)
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65534), help="Port of the web server.")
def up(host: str | None, port: int | None) -> None:
    """Start database, warm worker, code server, daemon and web server; Ctrl-C stops all of them."""
    _override("AIIA_HOST", host)
    _override("AIIA_PORT", port)
    require_project(load())
    with started(stops=True) as session:
        settings = session.settings
        with store(session):
            pass  # the tables are made, or the reason why not is told, before anything starts
        url = f"http://{settings.host}:{settings.port}"
        supervisor = Supervisor(
            services(settings, url), settings.home / "logs", announce=output().say
        )
        with _claimed(settings, url, supervisor.mark), _stopping() as stop:
            output().say(f"Starting aiia at {url} …")
            supervisor.run(_announced(stop, url))
        output().say("Everything has stopped.")


def _override(name: str, value: object) -> None:
    if value is not None:
        os.environ[name] = str(value)


def services(settings: Settings, url: str) -> list[Service]:
    """List the processes: the worker that runs are forked off, the code server, then what asks both."""
    environment = {**os.environ, **settings.environment(), "DAGSTER_HOME": str(settings.project)}
    grpc = settings.port + _CODE_PORT_OFFSET
    workspace = settings.home / "workspace.yaml"
    workspace.write_text(
        "load_from:\n  - grpc_server:\n"
        f"      host: 127.0.0.1\n      port: {grpc}\n      location_name: aiia_pipelines\n"
    )
    return [
        Service(
            "worker",
            [sys.executable, "-m", "aiia_pipelines.worker"],
            environment,
            ready=lambda: is_ready(settings.home),
        ),
        Service(
            "code",
            [sys.executable, "-m", "aiia_pipelines.code_server", "--port", str(grpc)],
            environment,
            ready=lambda: listens("127.0.0.1", grpc),
        ),
        Service(
            "daemon",
            [sys.executable, "-m", "aiia_pipelines.daemon", "-w", str(workspace)],
            environment,
        ),
        Service(
            "web",
            [sys.executable, "-m", "aiia_pipelines.console.host", "-w", str(workspace),
             "-h", settings.host, "-p", str(settings.port)],
            environment,
            ready=lambda: answers(url, timeout=2),
        ),
    ]  # fmt: skip


@contextmanager
def _claimed(settings: Settings, url: str, mark: str) -> Iterator[None]:
    """Be the only `aiia up` of this home and the only listener on its ports."""
    try:
        note = Running.claim(settings.home, url, mark)
    except AlreadyUp as other:
        raise Stop(
            Exit.UNREACHABLE,
            f"aiia is already up at {other.running.url} (process {other.running.pid}).",
            code="already-up",
            remedy="Use it, or stop it first with Ctrl-C where it runs.",
        ) from other
    try:
        for port in (settings.port, settings.port + _CODE_PORT_OFFSET):
            if port_taken(settings.host, port):
                raise Stop(
                    Exit.UNREACHABLE,
                    f"Port {port} on {settings.host} is taken by another program.",
                    code="port-taken",
                    remedy="Stop that program, or choose another port: `aiia up --port 3100`.",
                )
        yield
    finally:
        note.release(settings.home)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that everything is stopped in order."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _announced(stop: threading.Event, url: str) -> threading.Event:
    """Tell where to look once everything answers."""

    def tell() -> None:
        while not stop.wait(0.2):
            if answers(url, timeout=2):
                output_line = f"Ready: Dagster UI at {url} — Ctrl-C stops everything."
                click.echo(output_line, err=True)
                return

    threading.Thread(target=tell, daemon=True).start()
    return stop
