"""Our alias programs beside the originals (fastforward 0.51, dot-forward 0.71): the same files, octet by octet.

The originals have their home and /etc/aliases compiled in, so that they run in a mount namespace of their own.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.programs.conftest import Site

from ekiden.programs import find

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for a mount namespace")
SEED = 20261123
CASES = 100

WORDS = [
    *["root", "bob", "owner-list", "list", "joe@x.example", "@x.example", "fred@host", "a.b", "x+", '"spaced out"@y'],
    *["Joe Shmoe <shmoe@h.example>", "bob (Bob (the) postmaster) @h.example", "<root@x.example>", "LIST", "\\joe"],
    *['"|vacation bob"', "|date", ":include:/lists/a", ": include :b", ":include: c.d", "joe@[127.0.0.1]", '"|a@b"'],
    *["/var/mail/x", "<>", "(only a comment)", "x@host+", "a\\,b", "bob fred", "joe;", "Group: a, b;", "#x"],
    "\xe9@x.y",
]
SEPARATORS = [", ", ",", " ", "\n  ", "\n\n\t", ",\n  ", " , ,"]


def alias_file(chance: random.Random) -> str:
    lines = []
    for _ in range(chance.randint(1, 4)):
        recipients = chance.choice(SEPARATORS).join(chance.choices(WORDS, k=chance.randint(0, 4)))
        lines.append(chance.choice(WORDS[:10]) + chance.choice([": ", ":", " : ", " "]) + recipients)
    # The original does not see a last line without a newline; ours does.
    return "\n".join(lines) + chance.choice(["\n", "\n# comment\n  more of it\n"])


def include_file(chance: random.Random) -> str:
    lines = [chance.choice(SEPARATORS).join(chance.choices(WORDS, k=chance.randint(0, 4))) for _ in range(3)]
    return "\n".join(lines) + chance.choice(["\n", ""])


def table(chance: random.Random) -> str:
    pieces = ["root@", ":", ",", ";", " ", "\n", "?", "|run it", "!x", "&a@b.c", "\\:", "\\", "# c\n", "./l", "X@X.y"]
    ordered = [f"{chance.choice(pieces)}: a@b, {chance.choice(pieces)};" for _ in range(3)]
    return "".join(chance.choices(pieces, k=chance.randint(0, 14))) if chance.random() < 0.5 else "\n".join(ordered)


def maillist(chance: random.Random) -> str:
    pieces = ["a@b.c", "&d@e.f", "./x", "/y z", "# c", "", "  ", "joe@h  \t", " lead@x", "\xe9@x.y", "x" * 801]
    return "\n".join(chance.choices(pieces, k=chance.randint(0, 6))) + chance.choice(["\n", ""])


PROGRAMS = {
    "newaliases": (alias_file, "cp $case /etc/aliases && qmail-newaliases && cp /etc/aliases.cdb $case.theirs"),
    "newinclude": (include_file, "cp $case l && newinclude l && cp l.bin $case.theirs"),
    "setforward": (table, "setforward $case.theirs $case.t < $case"),
    "setmaillist": (maillist, "setmaillist $case.theirs $case.t < $case"),
}
OURS = {
    "newaliases": ("{case}", "{case}.cdb"),
    "newinclude": ("{case}", "{case}.bin"),
    "setforward": ("{case}.ours", "{case}.t", "{case}.ours"),
    "setmaillist": ("{case}.ours", "{case}.t", "{case}.ours"),
}


@pytest.fixture(autouse=True)
def _keep_umask() -> Iterator[None]:
    """Programs run in this process change it."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


def originally(site: Site, commands: str) -> str:
    """Run shell commands where /var/lib/qmail is the site's home and /etc is empty; what they printed."""
    (site.place / "etc").mkdir(exist_ok=True)
    mounts = f"mount -t tmpfs none /var/lib && mkdir /var/lib/qmail && mount --bind {site.home} /var/lib/qmail"
    inside = f"{mounts} && mount --bind {site.place}/etc /etc && {{ {commands}\n}} 2>&1"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside]
    variables = {**os.environ, **site.environment}
    done = subprocess.run(argv, cwd=site.place, capture_output=True, timeout=60, env=variables)
    return done.stdout.decode("utf-8", "replace")


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_octets(
    site: Site, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the originals refuse is refused, and what they write is written.

    One difference is meant: of ``|command argument`` without quotes they make a command and an address.
    """
    assert shutil.which("fastforward"), "run tests/install-peers"
    chance = random.Random(SEED)
    make, command = PROGRAMS[name]
    cases = [site.place / f"case{number}" for number in range(CASES)]
    for case in cases:
        case.write_text(make(chance), encoding="latin-1")
    originally(site, f'for case in {site.place}/case*; do {command}; echo $? > "$case.code"; done')
    program = find(name)
    assert program is not None
    succeeded = 0
    for case in cases:
        *argv, result = (each.format(case=case) for each in OURS[name])
        with open(case, "rb") as text, monkeypatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(text))
            code = program(argv, site.home)
        theirs = Path(f"{case}.theirs")
        said = capfd.readouterr().err
        shown = f"{case.read_text(encoding='latin-1')!r}: {said}"
        if "must stand in quotes" in said:
            continue
        assert (code == 0) == (Path(f"{case}.code").read_text() == "0\n"), shown
        if code == 0:
            assert Path(result).read_bytes() == theirs.read_bytes(), shown
            succeeded += 1
    assert succeeded > CASES // 10


def forward_table(chance: random.Random) -> str:
    """A table that is right, with loops, wildcards, owners, lists that exist and lists that do not."""
    targets = ["root@h", "root@", "@h", "bob@h", "list@h", "@", "joe@h"]
    commands = ["root@h", "&bob@h", "list@h", "?o@h", "|run\\ it", "!x", "joe@h", "a@elsewhere", "./l.bin", "./none"]
    return "\n".join(
        f"{chance.choice(targets)}: {', '.join(chance.choices(commands, k=chance.randint(1, 4)))};" for _ in range(5)
    )


@needs_root
@pytest.mark.slow
def test_fastforward_says_the_same(
    site: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same recipients from the same sender, the same programs, the same exit codes."""
    chance = random.Random(SEED)
    monkeypatch.chdir(site.place)
    (site.place / "l.bin").write_bytes(b"&c@d\0&bob@h\0./l.bin\0")
    cases = []
    for number in range(CASES):
        (site.place / f"case{number}").write_text(forward_table(chance))
        recipient = chance.choice(["root@h", "bob@H", "x@h", "root@i", "x"])
        sender = chance.choice(["", "a@b", "#@[]"])
        cases.append((recipient, sender, chance.choice(["-n", "-np", "-nd", "-pPn"])))
    run = "".join(
        f"setforward {n}.cdb {n}.tmp < case{n}; RECIPIENT='{recipient}' SENDER='{sender}' EXT=bob HOST=h "
        f"fastforward {option} {n}.cdb > {n}.said 2>&1; echo $? > {n}.code\n"
        for n, (recipient, sender, option) in enumerate(cases)
    )
    originally(site, run)
    program = find("fastforward")
    assert program is not None
    monkeypatch.setenv("EXT", "bob")
    monkeypatch.setenv("HOST", "h")
    for number, (recipient, sender, option) in enumerate(cases):
        monkeypatch.setenv("RECIPIENT", recipient)
        monkeypatch.setenv("SENDER", sender)
        code = program([option, f"{number}.cdb"], site.home)
        said = capfd.readouterr().err
        shown = f"{(site.place / f'case{number}').read_text()} {cases[number]} {said}"
        assert code == int((site.place / f"{number}.code").read_text()), shown
        if code != 111:
            assert said == (site.place / f"{number}.said").read_text(), shown


@needs_root
@pytest.mark.slow
def test_printforward_says_the_same(site: Site) -> None:
    chance = random.Random(SEED)
    for number in range(20):
        (site.place / f"case{number}").write_text(forward_table(chance))
        text = read(site, f"case{number}")
        assert site.run("setforward", f"{number}.cdb", "tmp", data=text, cwd=site.place).returncode == 0
    originally(site, "for n in $(seq 0 19); do printforward < $n.cdb > $n.said; done")
    for number in range(20):
        printed = site.run("printforward", data=read(site, f"{number}.cdb")).stdout
        assert printed == read(site, f"{number}.said")
        assert site.run("setforward", "again.cdb", "tmp", data=printed, cwd=site.place).returncode == 0
        assert read(site, "again.cdb") == read(site, f"{number}.cdb")


def read(site: Site, name: str) -> bytes:
    return (site.place / name).read_bytes()


@needs_root
@pytest.mark.slow
def test_dot_forward_says_the_same(
    site: Site, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same addresses and programs, if not in the same order; files and lists only ours knows."""
    chance = random.Random(SEED)
    monkeypatch.chdir(site.place)
    words = [word for word in WORDS if ":" not in word and not word.startswith("/") and word != "<>"]
    for number in range(CASES):
        lines = [
            chance.choice(SEPARATORS).join(chance.choices(words, k=chance.randint(0, 3)))
            for _ in range(chance.randint(0, 3))
        ]
        (site.place / f"case{number}").write_text("\n".join(lines) + "\n", encoding="latin-1")
    originally(
        site,
        "export USER=joe HOST=x.example; "
        f"for n in $(seq 0 {CASES - 1}); do dot-forward -n none case$n > $n.said 2>&1; echo $? > $n.code; done",
    )
    program = find("dot-forward")
    assert program is not None
    monkeypatch.setenv("USER", "joe")
    monkeypatch.setenv("HOST", "x.example")
    compared = 0
    for number in range(CASES):
        code = program(["-n", "none", f"case{number}"], site.home)
        said = capfd.readouterr().err
        if "must stand in quotes" in said:
            continue
        shown = (site.place / f"case{number}").read_text(encoding="latin-1") + said
        assert code == int((site.place / f"{number}.code").read_text()), shown
        theirs = (site.place / f"{number}.said").read_text(encoding="utf-8", errors="backslashreplace")
        if code != 111:
            assert set(said.splitlines()) == set(theirs.splitlines()), shown
            compared += 1
    assert compared > CASES // 3
