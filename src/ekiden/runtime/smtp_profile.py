"""How the settings have an SMTP server present itself, whoever drives it: the smtpd role or qmail-smtpd."""

from __future__ import annotations

from ekiden.settings.schema import Settings
from ekiden.wire.smtp.profile import Profile


def make_profile(
    settings: Settings,
    databytes: int,
    starttls: bool,
    lmtp: bool = False,
    mechanisms: tuple[bytes, ...] = (),
    plaintext: bool = False,
    authenticate: bool = False,
) -> Profile:
    """The profile for clients whose messages may have ``databytes`` octets; the rest is as in ``Profile``."""
    return Profile(
        greeting=settings.smtpgreeting.decode("utf-8", "replace"),
        size_limit=databytes,
        recipients=settings.recipientsmax,
        errors=settings.errorsmax,
        command_octets=settings.commandbytes,
        line_octets=settings.linebytes,
        normalise=settings.barenewline == "normalise",
        starttls=starttls,
        lmtp=lmtp,
        mechanisms=mechanisms,
        plaintext=plaintext,
        authenticate=authenticate,
    )
