"""config, check, route: the configuration before anything runs on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ekiden.commands.trouble import require_configured, unusable

if TYPE_CHECKING:
    from ekiden.routing.route import Decision
    from ekiden.settings.problem import Problem
    from ekiden.settings.schema import Settings

DEFAULT_LISTEN = {True: "*:25", False: "127.0.0.1:2525"}
"""Where a first configuration listens, by whether root makes it."""


def _checked(_context: click.Context, _option: click.Parameter, places: tuple[str, ...]) -> tuple[str, ...]:
    from ekiden.settings.listeners import parse_listener

    try:
        for place in places:
            parse_listener(f"smtp {place}")
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return places


@click.command()
@click.argument("fqdn", required=False)
@click.option(
    "--listen",
    "places",
    metavar="ADDR:PORT",
    multiple=True,
    callback=_checked,
    help="Where to speak SMTP; may be repeated.",
)
@click.pass_obj
def config(home: Path, fqdn: str | None, places: tuple[str, ...]) -> int:
    """Make a home and its first control files, from FQDN or, without it, from the DNS."""
    import os

    from ekiden.installation.scripts import write_bin
    from ekiden.settings import first

    try:
        if fqdn:
            first.configure(home, fqdn, click.echo, prepare=first.make_home)
        else:
            first.configure_by_dns(home, click.echo, prepare=first.make_home)
        first.make_aliases(home)
        write_bin(home)
        if places or not (home / "control" / "listen").exists():
            first.write_listen(home, places or [DEFAULT_LISTEN[os.geteuid() == 0]])
    except first.ConfigurationError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        raise unusable(error) from None
    return 0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per problem.")
@click.option("--user", metavar="NAME", help="Only who controls this local part or address, and its .qmail files.")
@click.pass_obj
def check(home: Path, as_json: bool, user: str | None) -> int:
    """Name every problem in the configuration, with file, line and remedy.

    Exit code 1 if ekiden cannot run with it; 0 if there are only warnings.
    """
    import msgspec

    require_configured(home)
    found = _all_problems(home) if user is None else _user_problems(home, user, as_json)
    for problem in found:
        click.echo(msgspec.json.encode(problem).decode() if as_json else str(problem))
    if not found and not as_json:
        click.echo("no problems found")
    return 1 if any(problem.fatal for problem in found) else 0


def _all_problems(home: Path) -> list[Problem]:
    from ekiden.delivery.checking import users_problems
    from ekiden.installation.reach import programs_problems
    from ekiden.runtime.pop3.advice import pop3_problems
    from ekiden.runtime.remote_advice import remote_login_problems
    from ekiden.runtime.rules_advice import rules_problems
    from ekiden.settings.control import problems

    return [
        *problems(home / "control"),
        *rules_problems(home),
        *users_problems(home, _default_delivery(home)),
        *programs_problems(home),
        *pop3_problems(home),
        *remote_login_problems(home),
    ]


def _default_delivery(home: Path) -> bytes:
    """The default delivery's instructions; empty if the configuration cannot be used, which is said elsewhere."""
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    try:
        return read(home / "control").defaultdelivery
    except SettingsError:
        return b""


def _user_problems(home: Path, name: str, as_json: bool) -> list[Problem]:
    """Say who controls a local part, or an address after virtualdomains, and give what is wrong there."""
    from ekiden.routing.destination import RouteError
    from ekiden.routing.route import Router
    from ekiden.routing.users import UsersUnavailable
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    recipient = name.encode("utf-8", "surrogateescape")
    try:
        if b"@" in recipient:
            decision = Router(read(home / "control")).route(recipient)
            if decision.channel != "local":
                raise click.ClickException(f"{name} is not delivered on this host")
            recipient = decision.recipient.rpartition(b"@")[0]
        said, found = _controller(home, recipient, name, _default_delivery(home))
    except (SettingsError, RouteError, UsersUnavailable) as error:
        raise click.ClickException(str(error)) from None
    if not as_json:
        click.echo(said)
    return found


def _controller(home: Path, local: bytes, name: str, default: bytes) -> tuple[str, list[Problem]]:
    """A sentence on who controls the local part, called ``name``, and what is wrong there; UsersUnavailable."""
    from ekiden.delivery.checking import address_problems

    user, found = address_problems(home, local, default)
    file, place = (part.decode("utf-8", "replace") for part in (b".qmail" + user.dash + user.ext, user.home))
    return f"{name} is controlled by {user.name.decode('utf-8', 'replace')}, {place}/{file}", found


@click.command()
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def route(home: Path, address: str, as_json: bool) -> int:
    """Say what would happen to mail for ADDRESS, and which file and line decides it."""
    from ekiden.routing.destination import RouteError
    from ekiden.routing.explain import explain
    from ekiden.routing.route import Router
    from ekiden.settings.control import read
    from ekiden.settings.problem import SettingsError

    try:
        settings = read(home / "control")
        router = Router(settings)
    except (SettingsError, RouteError) as error:
        raise click.ClickException(str(error)) from None
    recipient = address.encode("utf-8", "surrogateescape")
    decision = router.route(recipient)
    reasons = [str(reason) for reason in explain(router, recipient, home / "control")]
    if decision.channel == "local":
        reasons += _delivered(home, decision, settings)
    channel = decision.channel
    final, destination = (each.decode("utf-8", "replace") for each in (decision.recipient, decision.destination))
    if as_json:
        told = {"address": address, "channel": channel, "recipient": final, "destination": destination}
        click.echo(json.dumps({**told, "reasons": reasons}))
        return 0
    click.echo(f"{final} goes to {channel}" + (f" {destination}" if channel != "local" else ""))
    for reason in reasons:
        click.echo(f"  {reason}")
    return 0


def _delivered(home: Path, decision: Decision, settings: Settings) -> list[str]:
    """Who controls a local recipient, and what is wrong there."""
    from ekiden.routing.users import UsersUnavailable

    local = decision.recipient.rpartition(b"@")[0]
    try:
        said, found = _controller(home, local, local.decode("utf-8", "replace"), settings.defaultdelivery)
    except UsersUnavailable as error:
        return [str(error)]
    return [said, *map(str, found)]
