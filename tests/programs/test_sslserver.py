"""sslserver and sslclient with each other, with openssl and with Python's ssl."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import ssl
import subprocess
from pathlib import Path

import pytest
from tests.peers.certificate import Certificate
from tests.peers.processes import program
from tests.peers.ucspi import CHILD, OURS, Server, command, compile_rules, environment, everything, mask, run


def sslserver(certificate: Certificate, *options: str, child: tuple[str, ...] = CHILD, **variables: str) -> Server:
    files = {"CERTFILE": str(certificate.certificate), "KEYFILE": str(certificate.key), **variables}
    return Server(OURS, [*options], child, variables=files, name="sslserver")


def context(certificate: Certificate) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=str(certificate.certificate))
    found.check_hostname = False
    return found


def answer(server: Server, tls: ssl.SSLContext, say: bytes = b"") -> str:
    with tls.wrap_socket(server.connect()) as connection:
        connection.sendall(say)
        return mask(everything(connection), **server.numbers)


def test_variables(certificate: Certificate) -> None:
    with sslserver(certificate, "-v", "-RHl0", TCPREMOTEIP="old") as server:
        lines = answer(server, context(certificate)).splitlines()
        assert lines == [
            "PROTO=SSL",
            "SSLLOCALHOST=0",
            "SSLLOCALIP=127.0.0.1",
            "SSLLOCALPORT=SERVER",
            "SSLREMOTEIP=127.0.0.1",
            "SSLREMOTEPORT=CLIENT1",
            "TCPREMOTEIP=old",
        ]
        assert server.log("status: 0/40\n", 2).splitlines()[2:] == [
            "sslserver: pid PID from 127.0.0.1",
            "sslserver: ok PID 0:127.0.0.1:SERVER :127.0.0.1::CLIENT1",
            "sslserver: end PID status 0",
            "sslserver: status: 0/40",
        ]
        assert server.stop() == 0


def test_variables_as_tcpserver_has_them(certificate: Certificate) -> None:
    with sslserver(certificate, "-e", "-RHl0") as server:
        lines = answer(server, context(certificate)).splitlines()
    assert "PROTO=SSL" in lines and "TCPREMOTEIP=127.0.0.1" in lines and "SSLREMOTEIP=127.0.0.1" in lines


def test_variables_about_tls(certificate: Certificate) -> None:
    child = ("sh", "-c", "env | grep ^SSL_ | sort")
    with sslserver(certificate, "-s", "-RHl0", child=child) as server:
        tls = context(certificate)
        with tls.wrap_socket(server.connect()) as connection:
            found = dict(line.split("=", 1) for line in everything(connection).splitlines())
            cipher = connection.cipher()
    assert cipher is not None
    assert (found["SSL_PROTOCOL"], found["SSL_CIPHER"]) == (cipher[1], cipher[0])
    assert (found["SSL_CIPHER_USEKEYSIZE"], found["SSL_CIPHER_EXPORT"]) == (str(cipher[2]), "false")


@pytest.mark.parametrize("size", [0, 1, 16384, 1_000_000])
def test_octets_both_ways(certificate: Certificate, size: int) -> None:
    sent = os.urandom(size)
    child = ("sh", "-c", f"head -c {size} | tee /dev/stderr | sha256sum; head -c {size} /dev/zero")
    with (
        sslserver(certificate, "-q", "-RHl0", child=child) as server,
        context(certificate).wrap_socket(server.connect()) as connection,
    ):
        connection.sendall(sent)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    digest, _, zeros = received.partition(b"\n")
    assert digest.split()[0].decode() == hashlib.sha256(sent).hexdigest()
    assert zeros == bytes(size)


def test_a_banner_is_encrypted(certificate: Certificate) -> None:
    with sslserver(certificate, "-RHl0", "-B", "220 hello\r\n", child=("echo", "there")) as server:
        assert answer(server, context(certificate)) == "220 hello\r\nthere\n"


def test_rules_deny_before_tls(certificate: Certificate, tmp_path: Path) -> None:
    with sslserver(certificate, "-v", "-RHl0", "-x", compile_rules(tmp_path, ":deny\n")) as server:
        with pytest.raises(OSError):
            answer(server, context(certificate))
        assert "sslserver: deny PID" in server.log("status: 0/40\n", 2)


def test_a_client_that_speaks_no_tls(certificate: Certificate) -> None:
    with sslserver(certificate, "-v", "-RHl0") as server:
        with server.connect() as connection:
            connection.sendall(b"EHLO plain\r\n")
            assert "PROTO" not in everything(connection)
        log = server.log("status: 0/40\n", 2)
        assert "sslserver: warning: dropping connection, unable to accept SSL: " in log and "status 28416\n" in log
        assert "PROTO=SSL" in answer(server, context(certificate))


def test_a_client_that_says_nothing(certificate: Certificate) -> None:
    with sslserver(certificate, "-v", "-RHl0", "-T", "1") as server, server.connect():
        assert "unable to accept SSL: timed out\n" in server.log("status: 0/40\n", 2)


def test_a_silent_program_and_client(certificate: Certificate) -> None:
    with sslserver(certificate, "-RHl0", "-w", "1", child=("cat",)) as server:
        assert answer(server, context(certificate)) == ""


def test_clients_with_certificates(certificate: Certificate) -> None:
    child = ("sh", "-c", "env | grep ^SSL_CLIENT | sort")
    with sslserver(certificate, "-i", "-s", "-RHl0", child=child, CAFILE=str(certificate.certificate)) as server:
        tls = context(certificate)
        with pytest.raises(OSError):
            # With TLS 1.3 the refusal comes with the first octets.
            assert answer(server, tls).startswith("SSL_CLIENT")
            raise OSError
        tls.load_cert_chain(certificate.certificate, certificate.key)
        told = answer(server, tls)
    assert "SSL_CLIENT_S_DN=/CN=localhost\n" in told and "SSL_CLIENT_I_DN_CN=localhost\n" in told
    assert "-----BEGIN CERTIFICATE-----\n" in told and "SSL_CLIENT_M_VERSION=3\n" in told


def test_the_home_s_own_certificate(certificate: Certificate, tmp_path: Path) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "servercert.pem").write_bytes(certificate.certificate.read_bytes())
    (tmp_path / "control" / "serverkey.pem").write_bytes(certificate.key.read_bytes())
    with Server(OURS, ["-RHl0"], name="sslserver", variables={"EKIDEN_HOME": str(tmp_path)}) as server:
        assert "PROTO=SSL" in answer(server, context(certificate))


@pytest.mark.skipif(os.geteuid() != 0, reason="other users need root")
def test_certificates_are_read_as_the_user_unless_asked(certificate: Certificate, place: Path) -> None:
    secret = place / "both.pem"
    secret.write_bytes(certificate.both.read_bytes())
    secret.chmod(0o600)
    arguments = ["-RHl0", "-u", "65534", "-g", "65534"]
    code, _, errors = run(OURS, "sslserver", *arguments, "127.0.0.1", "0", "true", CERTFILE=str(secret))
    assert code == 111 and errors.startswith("sslserver: fatal: unable to load certificate")
    with Server(
        OURS, ["-a", *arguments], ("id", "-u"), name="sslserver", variables={"CERTFILE": str(secret)}
    ) as server:
        assert answer(server, context(certificate)) == "65534\n"


def test_a_key_with_a_password(certificate: Certificate, tmp_path: Path) -> None:
    key = tmp_path / "locked.pem"
    lock = ["-aes256", "-passout", "pass:jiro", "-out", key]
    subprocess.run([program("openssl"), "pkey", "-in", certificate.key, *lock], check=True)
    line = [*command(OURS, "sslserver"), "-13RHl0", "127.0.0.1", "0", "true"]
    for password, starts in (("jiro", True), ("wrong", False)):
        process = subprocess.Popen(
            ["sh", "-c", f"printf '{password}\\0' | exec \"$@\" 3<&0", "sh", *line],
            env=environment(CERTFILE=str(certificate.certificate), KEYFILE=str(key)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        assert process.stdout is not None and process.stderr is not None
        told = process.stdout.readline()
        assert (told != b"") == starts
        os.killpg(process.pid, signal.SIGTERM)
        errors = process.communicate(timeout=60)[1]
        assert (b"unable to load certificate" in errors) != starts


TALK = ("sh", "-c", "env | grep -E '^(PROTO|SSL|TCP)' | sort; echo hello >&7; exec cat <&6")


@pytest.mark.parametrize(
    ("options", "host", "code"),
    [
        (["-a", "{ca}"], "127.0.0.1", 0),
        (["-a", "{ca}"], "localhost", 0),
        (["-X"], "127.0.0.1", 0),
        (["-a", "{ca}", "-N"], "127.0.0.2", 0),
        (["-a", "{ca}"], "127.0.0.2", 111),
        ([], "127.0.0.1", 111),
        (["-a", "/nonexistent"], "127.0.0.1", 111),
        (["-X", "-C", "no-such-cipher"], "127.0.0.1", 111),
    ],
)
def test_sslclient(certificate: Certificate, options: list[str], host: str, code: int) -> None:
    chosen = [option.format(ca=certificate.certificate) for option in options]
    child = ("sh", "-c", 'read line; echo "heard $line"')
    files = {"CERTFILE": str(certificate.both)}
    with Server(OURS, ["-RHl0"], child, host="0", variables=files, name="sslserver") as server:
        found, output, errors = run(OURS, "sslclient", "-RHl0", *chosen, host, str(server.port), *TALK)
    assert found == code, errors
    if code:
        assert errors.startswith("sslclient: fatal: ") and output == b""
    else:
        assert output.endswith(b"heard hello\n") and b"PROTO=SSL\n" in output and b"TCP" not in output


def test_sslclient_tells_about_tls(certificate: Certificate) -> None:
    with sslserver(certificate, "-RHl0", child=("true",)) as server:
        arguments = ["-v", "-RHl0", "-se", "-a", str(certificate.certificate), "127.0.0.1", str(server.port)]
        code, output, errors = run(OURS, "sslclient", *arguments, "sh", "-c", "env | sort")
        assert (code, errors) == (0, f"sslclient: connected to 127.0.0.1 port {server.port}\n")
    told = output.decode()
    assert "SSL_SERVER_S_DN_CN=localhost\n" in told and "TCPREMOTEIP=127.0.0.1\n" in told
    assert re.search(r"^SSL_PROTOCOL=TLSv1\.[23]$", told, re.MULTILINE)


def test_openssl_as_the_client(certificate: Certificate) -> None:
    with sslserver(certificate, "-RHl0", child=("sh", "-c", 'read line; echo "heard $line"')) as server:
        done = subprocess.run(
            [program("openssl"), "s_client", "-quiet", "-connect", f"127.0.0.1:{server.port}"],
            input=b"from openssl\n",
            capture_output=True,
            timeout=60,
        )
    assert b"heard from openssl\n" in done.stdout


@pytest.mark.parametrize("name", ["sslserver", "sslclient"])
@pytest.mark.parametrize("arguments", [[], ["0", "0"], ["-z", "0", "0", "true"], ["-w", "x", "0", "0", "true"]])
def test_wrong_use(name: str, arguments: list[str]) -> None:
    code, _, errors = run(OURS, name, *arguments)
    assert code == 100 and f"{name}: usage: {name} [" in errors and "Traceback" not in errors


def test_no_certificate() -> None:
    code, _, errors = run(OURS, "sslserver", "127.0.0.1", "0", "true", CERTFILE="/nonexistent")
    assert (code, errors) == (
        111,
        "sslserver: fatal: unable to load certificate /nonexistent: No such file or directory\n",
    )
