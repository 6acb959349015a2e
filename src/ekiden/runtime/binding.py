"""Sockets bound before privileges are given up: the listeners of control/listen and the unix sockets of ``run/``."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence
from pathlib import Path

from ekiden.runtime.privilege import as_root
from ekiden.runtime.socket_path import short_path
from ekiden.settings.schema import Listener, Settings

_FIRST_PASSED = 3


class CannotListen(Exception):
    """A listener cannot be bound; the text names it, says why and what to do."""


def listen(listener: Listener, backlog: int) -> socket.socket:
    """A listening socket for one line of control/listen."""
    try:
        if listener.path:
            bound = unix_socket(Path(listener.path))
            # As with a port, whoever can reach it may connect, unless the administrator says otherwise.
            os.chmod(listener.path, int(listener.options.get("mode", "666"), 8))
        else:
            bound = _tcp_socket(listener)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with as_root():
                bound.bind((listener.address, listener.port))
        bound.listen(backlog)
    except OSError as error:
        remedy = "; ports below 1024 need root" if error.errno == errno.EACCES else ""
        raise CannotListen(f"control/listen: {listener.service} {listener.where}: {error.strerror}{remedy}") from None
    bound.setblocking(False)
    return bound


def _tcp_socket(listener: Listener) -> socket.socket:
    if listener.host != "*" and ":" not in listener.address:
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError as error:
        if listener.host != "*" or error.errno != errno.EAFNOSUPPORT:
            raise
        # A kernel without IPv6 has no other addresses.
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(listener.host != "*"))
    return both


Bound = list[tuple[Listener, socket.socket]]


def rebind(present: Bound, settings: Settings) -> Bound:
    """The listeners of new settings: what is listened on already is kept, what is gone is closed.

    Raises CannotListen, and then nothing has changed.
    """
    bound = {listener.where: listening for listener, listening in present}
    listeners: Bound = []
    try:
        for listener in settings.listen:
            listening = bound.get(listener.where) or listen(listener, settings.listenbacklog)
            listeners.append((listener, listening))
    except CannotListen as error:
        for made, listening in listeners:
            if made.where not in bound:
                listening.close()
        ours = " ".join(where for where in bound if where.endswith(f":{listener.port}"))
        remedy = f"; ekiden listens on {ours} itself until it is stopped" if ours else ""
        raise CannotListen(f"{error}{remedy}") from None
    kept = {listener.where for listener in settings.listen}
    for where, listening in bound.items():
        if where not in kept:
            listening.close()
    return listeners


def unix_socket(path: Path) -> socket.socket:
    """A bound stream socket at ``path``, which may be long, in the place of a stale one."""
    if path.exists() and stat.S_ISSOCK(path.lstat().st_mode):
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path.parent, path.name) as short:
            bound.bind(short)
    except OSError:
        bound.close()
        raise
    return bound


def passed_sockets() -> list[socket.socket]:
    """Listening sockets that systemd passed (sd_listen_fds(3)), none if it passed none to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    passed = [socket.socket(fileno=descriptor) for descriptor in range(_FIRST_PASSED, _FIRST_PASSED + count)]
    for bound in passed:
        bound.setblocking(False)
        # Users' programs, which we run, must not find it.
        bound.set_inheritable(False)
    return passed


def take_passed(listener: Listener, passed: list[socket.socket]) -> socket.socket | None:
    """The passed socket that is bound where the listener wants to be, taken out of those that were passed."""
    for bound in passed:
        name = bound.getsockname()
        if isinstance(name, tuple):
            found = name[1] == listener.port and name[0] in (listener.address, "::" if listener.host == "*" else "")
        else:
            found = bool(listener.path) and name == listener.path
        if found:
            passed.remove(bound)
            return bound
    return None


def refuse_strange(passed: Sequence[socket.socket]) -> None:
    """CannotListen if a socket is left that no listener has taken: its clients would wait for ever."""
    for bound in passed:
        name = bound.getsockname()
        where = "{}:{}".format(*name) if isinstance(name, tuple) else name
        raise CannotListen(
            f"systemd passes a socket at {where}, which control/listen does not name; remedy: let both say the same"
        )


def notify_systemd(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing happens if it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.connect(address)
            notifier.sendall(state.encode())
        except OSError:
            return
