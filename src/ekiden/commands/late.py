"""Commands whose modules bring much with them are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class LateGroup(click.Group):
    """A group with such commands. ``late``: module and attribute by name, as ``package.module:command``."""

    def __init__(self, *arguments: Any, late: Mapping[str, str], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._late = late

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *self._late])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in self._late:
            module, _colon, attribute = self._late[cmd_name].partition(":")
            found: click.Command = getattr(import_module(module), attribute)
            return found
        return super().get_command(ctx, cmd_name)
