"""A private Postfix: own configuration, spool and ports, beside whatever the system has.

Needs root, because Postfix's processes run as its own users. ``postfix start`` itself creates the spool's directories
and gives them their owners.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.peers.processes import Unavailable, accepts, is_alive, kill, process_tree, program, run, wait_until

# The services of Debian's own master.cf with their shipped limits, not in a chroot (which needs copies of system
# files) and without those that hand mail to programs that are not there.
_SERVICES = """\
pickup    unix  n  -  n  60     1  pickup
cleanup   unix  n  -  n  -      0  cleanup
qmgr      unix  n  -  n  300    1  qmgr
tlsmgr    unix  -  -  n  1000?  1  tlsmgr
rewrite   unix  -  -  n  -      -  trivial-rewrite
bounce    unix  -  -  n  -      0  bounce
defer     unix  -  -  n  -      0  bounce
trace     unix  -  -  n  -      0  bounce
verify    unix  -  -  n  -      1  verify
flush     unix  n  -  n  1000?  0  flush
proxymap  unix  -  -  n  -      -  proxymap
proxywrite unix -  -  n  -      1  proxymap
smtp      unix  -  -  n  -      -  smtp
relay     unix  -  -  n  -      -  smtp
showq     unix  n  -  n  -      -  showq
error     unix  -  -  n  -      -  error
retry     unix  -  -  n  -      -  error
discard   unix  -  -  n  -      -  discard
local     unix  -  n  n  -      -  local
virtual   unix  -  n  n  -      -  virtual
lmtp      unix  -  -  n  -      -  lmtp
anvil     unix  -  -  n  -      1  anvil
scache    unix  -  -  n  -      1  scache
"""
_LOGGING = "postlog   unix-dgram n - n  -      1  postlogd\n"


class Postfix:
    """One instance below ``directory``, listening on ``host``:``port``.

    ``parameters`` are main.cf's, on top of a base that keeps the instance to itself. With ``log`` it writes its log
    into its spool; without, it logs to syslog as shipped.
    """

    def __init__(
        self, directory: Path, port: int, parameters: Mapping[str, str], log: bool = True, host: str = "127.0.0.1"
    ) -> None:
        if os.geteuid() != 0:
            raise Unavailable("Postfix needs root")
        self._program = program("postfix")
        self.directory = directory
        self.port = port
        self.host = host
        self.configuration = directory / "etc"
        self.queue_directory = directory / "queue"
        self._logs = log
        self.parameters = {
            "compatibility_level": "3.6",
            "queue_directory": str(self.queue_directory),
            "data_directory": str(directory / "data"),
            "myhostname": "postfix.example",
            "inet_interfaces": host,
            "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8",
            "mydestination": "postfix.example",
            "alias_maps": "",
            "alias_database": "",
            **({"maillog_file": str(self._log), "maillog_file_prefixes": str(directory)} if log else {}),
            **parameters,
        }

    @property
    def _log(self) -> Path:
        return self.queue_directory / "maillog"

    def start(self) -> None:
        """Write the configuration and start; returns once connections are accepted."""
        self._configure()
        run([self._program, "-c", self.configuration, "start"])
        wait_until(lambda: accepts(self.host, self.port), "Postfix accepts connections")

    def _configure(self) -> None:
        for path in (self.configuration, self.queue_directory, self.directory / "data"):
            path.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.directory / "data", "postfix")
        lines = [f"{name} = {value}\n" for name, value in self.parameters.items()]
        (self.configuration / "main.cf").write_text("".join(lines))
        listener = f"{self.host}:{self.port} inet n - n - - smtpd\n"
        services = listener + _SERVICES + (_LOGGING if self._logs else "")
        (self.configuration / "master.cf").write_text(services)

    @property
    def pid(self) -> int:
        """The master process; 0 when there is none."""
        try:
            pid = int((self.queue_directory / "pid/master.pid").read_text())
        except (OSError, ValueError):
            return 0
        return pid if is_alive(pid) else 0

    def pids(self) -> set[int]:
        """All processes of this instance."""
        return process_tree([self.pid] if self.pid else [])

    def stop(self) -> None:
        """End all processes; does nothing if none runs."""
        master = self.pid
        if master:
            processes = self.pids()
            # What ``postfix stop`` does, which looks only once a second whether it is over.
            kill(master, signal.SIGTERM)
            with suppress(AssertionError):
                wait_until(lambda: not any(map(is_alive, processes)), "end of processes", seconds=5)
            for pid in processes:
                if is_alive(pid):
                    kill(pid)

    def log(self) -> str:
        """What it has logged so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def queue(self) -> list[dict[str, Any]]:
        """What ``postqueue -j`` lists."""
        listed = run([program("postqueue"), "-c", self.configuration, "-j"]).stdout
        return [json.loads(line) for line in listed.splitlines() if line.startswith("{")]

    def flush(self) -> None:
        """Try all queued mail now."""
        run([program("postqueue"), "-c", self.configuration, "-f"])

    def send(self, sender: str, recipients: list[str], text: str, *options: str) -> None:
        """Inject by this instance's sendmail command; ``options`` such as ``-N success``."""
        arguments = [program("sendmail"), "-C", str(self.configuration), "-i", *options, "-f", sender, *recipients]
        run(arguments, input=text)
