"""The certificate's way from its files to a handshake."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate, make_certificate

from ekiden.runtime.certificate import LONGEST, CertificateFiles
from ekiden.runtime.tls import CannotSecure, ServerTLS, context_of, read_pem, server_context


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Certificate, Certificate]:
    made = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        made.append(make_certificate(tmp_path / name))
    return made[0], made[1]


def shown(context: ssl.SSLContext, name: str | None) -> bytes:
    """What a client that asks for ``name``, or for none, is shown, in DER."""
    client_context = ssl.create_default_context()
    client_context.check_hostname = False
    client_context.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.getpeercert(binary_form=True) or b""


def der(certificate: Certificate) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certificate.certificate.read_text())


@pytest.mark.parametrize("name", ["localhost", None])
def test_the_newest_certificate_is_shown(pair: tuple[Certificate, Certificate], name: str | None) -> None:
    one, other = pair
    tls = ServerTLS(one.both.read_bytes(), "name")
    assert shown(tls.context, name) == der(one)
    tls.replace(other.both.read_bytes())
    assert shown(tls.context, name) == der(other)
    with pytest.raises(CannotSecure, match="name: "):
        tls.replace(one.certificate.read_bytes() + other.key.read_bytes())
    assert shown(tls.context, name) == der(other)


def test_a_key_of_its_own_is_the_one_that_counts(pair: tuple[Certificate, Certificate], tmp_path: Path) -> None:
    one, other = pair
    wrong = tmp_path / "wrong.pem"
    wrong.write_bytes(other.key.read_bytes() + one.certificate.read_bytes())
    assert shown(server_context(str(wrong), str(one.key)), None) == der(one)


def test_what_cannot_be_used_is_named(pair: tuple[Certificate, Certificate], tmp_path: Path) -> None:
    with pytest.raises(CannotSecure, match=r"absent\.pem: No such file"):
        read_pem(str(tmp_path / "absent.pem"))
    with pytest.raises(CannotSecure, match=r"the file: "):
        context_of(b"no certificate", "the file")
    encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    with pytest.raises(CannotSecure, match=r"the file: "):
        context_of(encrypted + pair[0].certificate.read_bytes(), "the file")


def test_a_change_counts_when_it_is_over(pair: tuple[Certificate, Certificate], tmp_path: Path) -> None:
    one, other = pair
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(one.certificate.read_bytes())
    key.write_bytes(one.key.read_bytes())
    files = CertificateFiles(str(certificate), str(key))
    assert files.present
    assert not files.changed()
    certificate.write_bytes(other.certificate.read_bytes() + b"\n")
    assert not files.changed(), "the key may be about to follow"
    key.write_bytes(other.key.read_bytes() + b"\n\n")
    assert not files.changed()
    assert files.changed()
    assert files.pem == key.read_bytes() + b"\n" + certificate.read_bytes()
    assert not files.changed()


def test_a_file_that_goes_away_is_told_once_and_forgotten_by_nobody(
    pair: tuple[Certificate, Certificate], tmp_path: Path
) -> None:
    path = tmp_path / "both.pem"
    path.write_bytes(pair[0].both.read_bytes())
    files = CertificateFiles(str(path))
    had = files.pem
    path.unlink()
    assert not any(files.changed() for _ in range(3))
    assert "No such file" in files.problem
    assert files.pem == had
    path.write_bytes(b"x" * (LONGEST + 1))
    assert not any(files.changed() for _ in range(3))
    assert "too many for a certificate" in files.problem
    path.write_bytes(pair[1].both.read_bytes())
    assert [files.changed() for _ in range(3)] == [False, True, False]
    assert files.problem == ""


def test_no_certificate() -> None:
    files = CertificateFiles("")
    assert not files.present
    assert not files.changed()
    assert files.pem == b""
