"""TLS over octets against OpenSSL's server side, without a socket."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ekiden.runtime.tls_client import TlsClient, TlsConnection
from ekiden.settings.schema import Settings


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.example")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    signed = builder.sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return path


class Server:
    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def shake_hands(self, client: TlsConnection, size: int) -> None:
        towards = client.start()
        for _ in range(10):
            self.incoming.write(towards)
            with contextlib.suppress(ssl.SSLWantReadError):
                self.ssl.do_handshake()
            towards = b""
            data = self.outgoing.read()
            for start in range(0, len(data), size):
                plain, answer = client.receive(data[start : start + size])
                assert plain == b""
                towards += answer
            if client.established and not towards:
                return
        raise AssertionError("no handshake")


def context_of(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.mark.parametrize("size", [1, 100_000])
def test_octets_go_through_both_ways_and_sessions_are_resumed(certificate: Path, size: int) -> None:
    context = context_of(certificate)
    client = TlsClient(Settings(me=b"me.example"), certificate.parent)
    for resumed in (False, True):
        server, connection = Server(context), client.connection("mx.example", "192.0.2.1")
        server.shake_hands(connection, size)
        server.incoming.write(connection.send(b"EHLO me.example\r\n"))
        assert server.ssl.read() == b"EHLO me.example\r\n"
        server.ssl.write(b"250 mx.example\r\n")
        plain, _ = connection.receive(server.outgoing.read())
        assert plain == b"250 mx.example\r\n"
        assert server.ssl.session_reused is resumed
    other, connection = Server(context), client.connection("", "192.0.2.2")
    other.shake_hands(connection, size)
    assert other.ssl.session_reused is False


def test_a_certificate_is_shown_if_there_is_one(certificate: Path) -> None:
    context = context_of(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    server = Server(context)
    client = TlsClient(Settings(me=b"me.example", clientcert=certificate.name), certificate.parent)
    server.shake_hands(client.connection("mx.example", "192.0.2.1"), 1000)
    assert server.ssl.getpeercert()


def test_what_is_no_tls_is_noticed() -> None:
    connection = TlsClient(Settings(me=b"me.example"), Path("/")).connection("mx.example", "192.0.2.1")
    connection.start()
    with pytest.raises(ssl.SSLError):
        connection.receive(b"250 this is SMTP\r\n")


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("mx.example", "mx.example"),
        ("mx.example.", "mx.example"),
        ("駅.example", "xn--cb6a.example"),
        ("", None),
        ("a\\..example", None),
        ("\ufffd.example", None),
    ],
)
def test_the_server_is_named_as_certificates_name_it(certificate: Path, host: str, said: str | None) -> None:
    named: list[str | None] = []
    context = context_of(certificate)
    context.sni_callback = lambda _object, name, _context: named.append(name)
    Server(context).shake_hands(TlsClient(Settings(me=b"me.example"), Path("/")).connection(host, "192.0.2.1"), 9999)
    assert named == [said]
