"""start, stop, reload, status: the daemon as a whole."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ekiden.commands.trouble import TryAgain, require_configured
from ekiden.runtime.locks import holder
from ekiden.settings.lines import control_line

NOT_AGAIN = 65
"""Exit code where another start would be no use: the queue is damaged (sysexits' EX_DATAERR)."""

_SLOWEST = 150.0
"""Seconds that reload waits at most."""

_BESIDE = 90.0
"""Seconds that all else may take when ekiden stops, beside sessions and deliveries."""


@click.command()
@click.option("--foreground", is_flag=True, help="Stay in the foreground (for systemd and other supervisors).")
@click.pass_obj
def start(home: Path, foreground: bool) -> int:
    """Start ekiden; returns once it accepts connections. Does nothing if it already runs."""
    from ekiden.supervisor.premises import CannotStart, QueueDamaged
    from ekiden.supervisor.supervisor import Supervisor

    require_configured(home)
    if supervisor_of(home):
        click.echo(f"ekiden already runs in {home}")
        return 0
    if foreground:
        try:
            Supervisor(home, announce=lambda: None).serve()
        except CannotStart as error:
            click.echo(f"ekiden: {error}", err=True)
            return NOT_AGAIN if isinstance(error, QueueDamaged) else 1
        return 0
    if control_line(str(home), "logtarget") == b"stderr":
        click.echo(
            "ekiden: control/logtarget is stderr, so that nobody reads the log of what runs in the background;"
            " remedy: start --foreground, or another target",
            err=True,
        )
    return _start_in_background(home)


def _start_in_background(home: Path) -> int:
    """Fork the supervisor off and wait for its word: an empty one is success."""
    from ekiden.supervisor.premises import CannotStart
    from ekiden.supervisor.supervisor import Supervisor

    hear, tell = os.pipe2(os.O_CLOEXEC)
    if os.fork():
        os.close(tell)
        said = os.read(hear, 65536).decode()
        if said == "ready":
            return 0
        click.echo(f"ekiden: {said or 'the supervisor ended without a word'}", err=True)
        return 1
    os.setsid()
    if os.fork():
        os._exit(0)
    os.close(hear)
    _detach()
    status = 0
    try:
        Supervisor(home, announce=lambda: _say(tell, "ready"), private=(tell,)).serve()
    except CannotStart as error:
        _say(tell, str(error))
        status = 1
    except BaseException as error:
        _say(tell, f"{type(error).__name__}: {error}")
        status = 1
    os._exit(status)


def _say(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, text.encode())
        os.close(descriptor)


def _detach() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.close(null)
    os.chdir("/")


def supervisor_of(home: Path) -> int:
    """The process id of the supervisor that serves this home, 0 if nobody does."""
    try:
        return holder(home)
    except PermissionError:
        return _named_supervisor(home)


def _named_supervisor(home: Path) -> int:
    """The process that run/roles names, for those who may not look at the lock; 0 if it does not live."""
    try:
        pid = int(json.loads((home / "run" / "roles").read_text())["supervisor"])
    except (OSError, ValueError, KeyError):
        return 0
    return pid if Path(f"/proc/{pid}").exists() else 0


@click.command()
@click.pass_obj
def stop(home: Path) -> int:
    """Stop ekiden after the deliveries in progress; returns when it has ended."""
    pid = supervisor_of(home)
    if not pid:
        click.echo(f"ekiden does not run in {home}")
        return 0
    with _explained():
        os.kill(pid, signal.SIGTERM)
    # It may have been halted, as its roles may, whom it sees to.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    deadline = time.monotonic() + patience(home)
    while supervisor_of(home) == pid:
        if time.monotonic() > deadline:
            raise TryAgain(f"process {pid} has not ended yet")
        time.sleep(0.02)
    return 0


def patience(home: Path) -> float:
    """Seconds that stop waits at most: what sessions and deliveries are given, and more for all else."""
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError
    from ekiden.settings.schema import Settings

    try:
        settings = read(home / "control")
    except SettingsError:
        # They are wrong by now; what runs had others.
        settings = Settings(me=b"")
    return settings.shutdownseconds + _BESIDE


@click.command()
@click.pass_obj
def reload(home: Path) -> int:
    """Read the control files anew without dropping a connection; wrong ones are refused, with file and line."""
    from ekiden.policy.tcprules import require_sound
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    pid = _running(home)
    try:
        read(home / "control")
        require_sound(home / "control")
    except SettingsError as error:
        raise click.ClickException(f"settings not changed:\n{error}") from None
    before = _roles(home)
    with _explained():
        os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + _SLOWEST
    while (after := _roles(home))["generation"] == before["generation"]:
        if after.get("refusals") != before.get("refusals"):
            raise click.ClickException(f"settings not changed:\n{after['refusal']}")
        if supervisor_of(home) != pid:
            raise click.ClickException(f"process {pid} has ended before it took the new settings")
        if time.monotonic() > deadline:
            raise TryAgain(f"process {pid} has not taken the new settings yet")
        time.sleep(0.02)
    return 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def status(home: Path, as_json: bool) -> int:
    """Say whether ekiden runs here (exit code 1: it does not), its processes and its queue's figures."""
    pid = supervisor_of(home)
    if not pid:
        click.echo(json.dumps({"running": False}) if as_json else f"ekiden does not run in {home}")
        return 1
    state = {"running": True, **_roles(home), **_queue_figures(home)}
    if as_json:
        click.echo(json.dumps(state))
        return 0
    click.echo(f"ekiden runs in {home}, supervisor {pid}")
    for role in state["roles"]:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(role["since"]))
        click.echo(f"  {role['role']:8} process {role['pid']} since {since}{' (draining)' * role['draining']}")
    if state.get("queue"):
        figures = state["queue"]
        busy, limit = figures["in_flight"], figures["limit"]
        click.echo(f"  messages in queue: {figures['messages']}")
        for channel in ("local", "remote"):
            click.echo(f"  {channel} deliveries in progress: {busy[channel]} of {limit[channel]}")
    else:
        click.echo(f"  {state['error']}")
    return 0


def _queue_figures(home: Path) -> dict[str, Any]:
    import msgspec

    from ekiden.runtime.control import request
    from ekiden.runtime.control_frames import Rows, Status

    try:
        answer = request(home, Status(), timeout=5)
    except PermissionError:
        return {"queue": None, "error": f"only root and the owner of {home} may look at the queue"}
    except OSError as error:
        return {"queue": None, "error": f"the queue process does not answer: {error}"}
    assert isinstance(answer, Rows)
    rows = [msgspec.json.decode(row) for row in answer.rows]
    return {"queue": rows[0], "destinations": rows[1:]}


def _running(home: Path) -> int:
    pid = supervisor_of(home)
    if not pid:
        raise click.ClickException(f"ekiden does not run in {home}; start it with: ekiden --home {home} start")
    return pid


def _roles(home: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((home / "run" / "roles").read_text())
    except FileNotFoundError:
        return {"generation": 0, "roles": []}
    return state


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise click.ClickException(
            f"{error.strerror}: only root or the user who started ekiden may do that"
        ) from None
    except ProcessLookupError:
        sys.exit(0)
