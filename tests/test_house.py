"""The house's plan: imports run downwards only, without cycles, and no room is a lumber room.

Read by ``ast``, so that imports inside functions and for type checking count as well.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src"

LAYERS: list[set[str]] = [
    {"base"},
    {"wire", "tables"},
    {"settings"},
    {"routing"},
    {"policy"},
    {"queue", "delivery"},
    {"mailstore"},
    {"runtime"},
    {"roles"},
    {"supervisor"},
    {"installation", "migration", "programs", "commands", "cli"},
]
"""From the ground up. A room imports rooms of lower layers and itself; the top layer's rooms import each other."""

WORLDLY = {"socket", "ssl", "asyncio", "time", "os", "uvloop", "selectors", "threading", "subprocess"}
"""What wire, where protocols are state machines over bytes, must not touch."""

LUMBER = {"util", "utils", "helper", "helpers", "common", "misc", "manager", "managers", "tools", "stuff", "lib"}


def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "ekiden").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str) -> Iterator[str]:
    """The dotted names that a module imports: ours as far as they are modules, others as written."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            base = node.module or ""
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in MODULES else base


def ours(name: str) -> set[str]:
    """The modules of ours that a module imports, itself left out."""
    return {imported for imported in imports(name) if imported in MODULES} - {name}


def room(name: str) -> str:
    """The room that a module is in: the package or module directly below ekiden; empty for ekiden itself."""
    return name.split(".")[1] if "." in name else ""


def floor(name: str) -> int:
    """The number of the layer that the module's room is in."""
    return next(number for number, rooms in enumerate(LAYERS) if room(name) in rooms)


def test_every_room_has_its_layer() -> None:
    known = {name for layer in LAYERS for name in layer}
    assert {room(name) for name in MODULES} - {""} <= known


def test_imports_run_downwards() -> None:
    top = len(LAYERS) - 1
    wrong = []
    for name in MODULES:
        for imported in ours(name):
            if not room(name) or not room(imported) or room(name) == room(imported):
                continue
            if floor(imported) > floor(name) or floor(imported) == floor(name) < top:
                wrong.append(f"{name} imports {imported}")
    assert wrong == []


def test_roles_do_not_know_each_other() -> None:
    roles = [name for name in MODULES if room(name) == "roles"]
    wrong = [
        f"{name} imports {other}" for name in roles for other in ours(name) if other in set(roles) - {"ekiden.roles"}
    ]
    assert wrong == []


def test_wire_touches_no_world() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name in MODULES
        if room(name) == "wire"
        for imported in imports(name)
        if imported.split(".")[0] in WORLDLY
    ]
    assert wrong == []


def test_no_cycles() -> None:
    finished: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        assert name not in path, "cycle: " + " -> ".join([*path[path.index(name) :], name])
        if name not in finished:
            for imported in sorted(ours(name)):
                visit(imported, [*path, name])
            finished.add(name)

    for name in MODULES:
        visit(name, [])


def test_no_lumber_rooms() -> None:
    wrong = [
        str(path) for path in MODULES.values() if LUMBER & {part.removesuffix(".py") for part in path.parts[-3:]}
    ]
    assert wrong == []
