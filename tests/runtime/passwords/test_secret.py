"""Secrets of every kind, and the file that holds them."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from pathlib import Path

import argon2
import pytest

from ekiden.routing.users import Users
from ekiden.runtime.passwords.file import PasswordFile, parse
from ekiden.runtime.passwords.secret import Unavailable, check_apop, check_password, scram
from ekiden.wire.sasl import scram_keys

WORD = b"pass word"


def scram_secret(iterations: int = 4096) -> bytes:
    keys = scram_keys(WORD, b"0123456789abcdef", iterations)
    salt, stored, server = (base64.b64encode(part) for part in (keys.salt, keys.stored, keys.server))
    return b"SCRAM-SHA-256$%d:%b$%b:%b" % (iterations, salt, stored, server)


def crypted(*options: str) -> bytes:
    return subprocess.run(["openssl", "passwd", *options, WORD], capture_output=True, check=True).stdout.strip()


SECRETS = {
    "plain": lambda: b"{PLAIN}" + WORD,
    "scram": scram_secret,
    "argon2id": lambda: argon2.PasswordHasher(time_cost=1, memory_cost=64).hash(WORD).encode(),
    "sha512": lambda: crypted("-6"),
    "sha256": lambda: crypted("-5"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_only_the_right_password(kind: str) -> None:
    secret = SECRETS[kind]()
    assert check_password(secret, WORD)
    for wrong in (b"", b"pass worD", WORD + b"\0", WORD + b" ", secret):
        assert not check_password(secret, wrong)


@pytest.mark.parametrize("secret", [b"", b"*", b"!", b"!!", b"x", b"!$6$abc$def", b"*LK*", b"NP"])
def test_locked_accounts_let_nobody_in(secret: bytes) -> None:
    for word in (b"", b"*", b"x", secret):
        assert not check_password(secret, word)


def test_a_damaged_argon2_secret_is_trouble_not_a_wrong_password() -> None:
    with pytest.raises(Unavailable):
        check_password(b"$argon2id$v=19$m=64,t=1,p=1$", WORD)


def test_apop_needs_the_word_itself() -> None:
    stamp = b"<1.2@host>"
    digest = hashlib.md5(stamp + WORD).hexdigest().encode()
    assert check_apop(b"{PLAIN}" + WORD, stamp, digest)
    assert not check_apop(b"{PLAIN}" + WORD, b"<1.3@host>", digest)
    assert not check_apop(scram_secret(), stamp, digest)


def test_what_scram_needs() -> None:
    keys = scram(scram_secret(5000))
    assert keys is not None
    assert keys == scram_keys(WORD, b"0123456789abcdef", 5000)
    plain = scram(b"{PLAIN}" + WORD)
    assert plain == scram(b"{PLAIN}" + WORD)
    assert plain is not None
    assert plain.salt not in (hashlib.sha256(WORD).digest()[:16], WORD)
    assert scram(b"$6$abc$def") is None
    assert scram(b"SCRAM-SHA-256$1:====$====:====") is None


def test_the_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "pop3users"
    file = PasswordFile(path, Users(tmp_path))
    assert file.find(b"jiro") is None
    path.write_bytes(b"# people\njiro:{PLAIN}one:1000:100:/home/jiro\n")
    entry = file.find(b"jiro")
    assert entry is not None
    assert (entry.secret, entry.account.uid, entry.account.gid) == (b"{PLAIN}one", 1000, 100)
    path.write_bytes(b"jiro:{PLAIN}another:1000:100:/home/jiro:./box\n")
    entry = file.find(b"jiro")
    assert entry is not None
    assert (entry.secret, entry.account.mailbox) == (b"{PLAIN}another", b"./box")
    path.unlink()
    assert file.find(b"jiro") is None


@pytest.mark.parametrize(
    ("line", "good"),
    [
        (b"a:b", True),
        (b"a:b:1:2:/h", True),
        (b"a:b:1:2:/h:box", True),
        (b"a:" + scram_secret() + b":1:2:/h", True),
        (b"a", False),
        (b"a:", False),
        (b":b", False),
        (b"a:b:0:2:/h", False),
        (b"a:b:1:0:/h", True),
        (b"a:b:1:2", False),
        (b"a:b:1:2:h", False),
        (b"a:b:x:2:/h", False),
        (b"a:b:1:2:/h:box:more", False),
    ],
)
def test_lines(line: bytes, good: bool) -> None:
    lines, problems = parse(b"first:{PLAIN}x\n" + line + b"\n")
    assert (b"a" in lines) is good
    assert [(problem.file, problem.line) for problem in problems] == ([] if good else [("control/pop3users", 2)])


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_trouble(tmp_path: Path) -> None:
    path = tmp_path / "pop3users"
    path.write_bytes(b"a:b\n")
    path.chmod(0)
    with pytest.raises(Unavailable):
        PasswordFile(path, Users(tmp_path)).find(b"a")
