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

    configuration = _CONFIGURATION

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
        file.write_text(self.configuration.format(directory=self._directory, port=self.port))
        self._process = subprocess.Popen([self._program, "-F", "-c", str(file)])
        wait_until(lambda: accepts("127.0.0.1", self.port), "Dovecot accepts connections")

    def stop(self) -> None:
        """End all its processes."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def messages(self, user: str) -> list[bytes]:
        """The contents of a user's new messages."""
        return [path.read_bytes() for path in sorted((self._directory / "mail" / user / "new").glob("*"))]


_POP3 = """\
base_dir = {directory}/run
log_path = {directory}/dovecot.log
protocols = pop3
ssl = no
listen = 127.0.0.1
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
mail_max_userip_connections = 1000
first_valid_uid = 1
passdb {{
  driver = static
  args = password=secret
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={directory}/%u
}}
service pop3-login {{
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
"""


class Pop3Dovecot(Dovecot):
    """One that serves POP3 from ``directory/USER/Maildir``; everybody's password is ``secret``."""

    configuration = _POP3
