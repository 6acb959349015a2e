"""A private Dovecot that takes mail by LMTP into Maildirs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.peers.processes import Unavailable, accepts, end, free_port, program, wait_until

_CONFIGURATION = """\
base_dir = {directory}/run
log_path = {directory}/dovecot.log
protocols = lmtp
ssl = no
listen = 127.0.0.1
mail_location = maildir:{directory}/mail/%u
first_valid_uid = 1
auth_username_format = %Lu
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={directory}/mail/%u
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
"""


class Dovecot:
    """One instance below ``directory``, with an LMTP listener on 127.0.0.1:``port``."""

    def __init__(self, directory: Path) -> None:
        if os.geteuid() != 0:
            raise Unavailable("Dovecot needs root")
        self._directory = directory
        self._program = program("dovecot")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start; returns once it accepts connections."""
        mail = self._directory / "mail"
        mail.mkdir(parents=True)
        mail.chmod(0o777)
        file = self._directory / "dovecot.conf"
        file.write_text(_CONFIGURATION.format(directory=self._directory, port=self.port))
        self._process = subprocess.Popen([self._program, "-F", "-c", str(file)])
        wait_until(lambda: accepts("127.0.0.1", self.port), 10, "Dovecot accepts connections")

    def stop(self) -> None:
        """End all its processes."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def messages(self, user: str) -> list[bytes]:
        """The contents of a user's new messages."""
        return [path.read_bytes() for path in sorted((self._directory / "mail" / user / "new").glob("*"))]
