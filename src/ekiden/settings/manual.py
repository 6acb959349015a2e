"""docs/settings.md, made from the catalogue: ``python -m ekiden.settings.manual > docs/settings.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ekiden.settings.catalogue import CHAPTERS, control_file
from ekiden.settings.description import MANY, Kind, Setting
from ekiden.settings.schema import FOLLOWING_ME, default

_INTRODUCTION = """\
# Settings

Made from the catalogue by `python -m ekiden.settings.manual`; change it there.

Each setting is a file in the home's directory `control`, and the file's name is the setting's name. One file is
needed, `me`; every other setting has a default for when its file does not exist. qmail's files mean what they mean to
qmail, the others are ekiden's own and have the same form:

- A file of one value is its first line. What follows is not read. An empty file of a number or a word is as none.
- In a file of many entries, blank lines and lines that begin with `#` are skipped.
- Spaces and tabs at the end of a line never count, those at its beginning do, except in `listen`.
- Domains and addresses are compared without regard to case.
- A number is digits and nothing else. qmail takes the digits that a line begins with; here `1 hour` is refused, with
  the file, the line and what is allowed.

`ekiden check` says what is wrong or doubtful, `qmail-showctl` tells all settings in sentences, and `ekiden reload`
puts changes into effect. If anything is wrong, it says so and leaves the running settings as they are.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_chapters()])


def _chapters() -> Iterator[str]:
    for title, settings in CHAPTERS.items():
        yield f"## {title}\n"
        yield from _table(settings)
        yield ""


def _table(settings: Mapping[str, Setting]) -> Iterator[str]:
    yield "| file | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for name, setting in settings.items():
        yield f"| `{control_file(name)}` | {_default(name, setting)} | {setting.allowed} | {setting.help} |"


def _default(name: str, setting: Setting) -> str:
    if name == "me":
        return "none: needed"
    if name in FOLLOWING_ME or name == "locals":
        return "as `me`"
    value = default(name)
    if setting.kind is Kind.FILE or setting.kind in MANY or value == "":
        return "none"
    if isinstance(value, bytes):
        return f"`{value.decode()}`"
    return f"`{int(value) if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    print(render(), end="")
