"""What the administrator allows local deliveries (settings programseconds, maildirquota, overquota)."""

from __future__ import annotations

PROGRAM_SECONDS = 3600
"""How long a program may run before it is ended and the delivery deferred, if no setting says otherwise."""


class LocalLimits:
    """``program_seconds``: 0 is no limit. ``quota``: a definition as ``10000000S,1000C``, empty for none.

    ``bounce_over_quota``: mail for a full Maildir fails for good, else it is deferred.
    """

    __slots__ = ("bounce_over_quota", "program_seconds", "quota")

    def __init__(
        self, program_seconds: float = PROGRAM_SECONDS, quota: bytes = b"", bounce_over_quota: bool = True
    ) -> None:
        self.program_seconds = program_seconds
        self.quota = quota
        self.bounce_over_quota = bounce_over_quota


NO_LIMITS = LocalLimits(program_seconds=0)
