"""What sendmail does besides sending: run the queue (-q), say where addresses lead (-bv)."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def flush(home: str) -> int:
    """Have everything in the queue attempted now; 111 if the queue does not answer or may not be asked."""
    from pathlib import Path

    from ekiden.runtime.control import Asking
    from ekiden.runtime.control_frames import Done, Flush

    after = 0
    try:
        with Asking(Path(home)) as asking:
            while True:
                answer = asking.ask(Flush(after))
                if not isinstance(answer, Done) or not answer.next:
                    return 0
                after = answer.next
    except OSError as error:
        print(f"sendmail: fatal: the queue does not answer: {error.strerror or error}", file=sys.stderr)
        return 111


def verify(recipients: Sequence[str], home: str) -> int:
    """Say for each recipient how it would be delivered; 111 if the settings cannot be used, 100 for no address."""
    from pathlib import Path

    from ekiden.base.mailbox import Malformed
    from ekiden.routing.inject import Defaults
    from ekiden.routing.route import Router
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    try:
        settings = read(Path(home, "control"))
        router = Router(settings)
    except (SettingsError, ValueError) as error:
        print(f"sendmail: fatal: unable to use the configuration: {error}", file=sys.stderr)
        return 111
    defaults = Defaults(settings.defaulthost, settings.defaultdomain, settings.plusdomain, settings.idhost)
    for recipient in recipients:
        try:
            decision = router.route(defaults.complete_address(os.fsencode(recipient)))
        except Malformed:
            print(f"sendmail: fatal: unable to parse address: {recipient}", file=sys.stderr)
            return 100
        print(f"{recipient}... deliverable: mailer {decision.channel}, recipient {os.fsdecode(decision.recipient)}")
    return 0
