"""What sslserver and sslclient are told about certificates, and tell programs about TLS (ucspi-ssl's environment)."""

from __future__ import annotations

import os
import ssl

from ekiden.runtime.ucspi.wrong import Fatal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_COMPONENTS = {
    "countryName": "C",
    "commonName": "CN",
    "emailAddress": "Email",
    "givenName": "G",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "surname": "S",
    "stateOrProvinceName": "ST",
    "title": "T",
    "userId": "UID",
}
_PASSWORD = 3
_EXPORT_BITS = 56


def password() -> bytes:
    """The key's password from descriptor 3, ended by a zero octet or the end. Raises Fatal."""
    try:
        with open(_PASSWORD, "rb") as file:
            return file.read(4096).partition(b"\0")[0]
    except OSError as error:
        raise Fatal(f"unable to read password: {error.strerror}") from None


def server_context(environment: Mapping[str, str], asks: bool, secret: bytes | None) -> ssl.SSLContext:
    """A server's context by CERTCHAINFILE or CERTFILE, KEYFILE, CAFILE, CADIR, CIPHERS, DHFILE.

    ``asks``: clients must have a certificate of CAFILE's or CADIR's. Raises Fatal.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    certificate = environment.get("CERTCHAINFILE") or environment["CERTFILE"]
    _load(context, certificate, environment.get("KEYFILE", ""), secret)
    if environment.get("DHFILE"):
        try:
            context.load_dh_params(environment["DHFILE"])
        except OSError as error:
            raise Fatal(f"unable to load DH parameters: {error}") from None
    _configure(context, environment)
    if asks:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: Mapping[str, str], verifies: bool, names: bool, secret: bytes | None) -> ssl.SSLContext:
    """A client's context by the same names. ``verifies`` the certificate, and ``names`` that it is the host's.

    Without CAFILE and CADIR the system's authorities count. Raises Fatal.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verifies and names
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    if settings.get("CERTFILE"):
        _load(context, settings["CERTFILE"], settings.get("KEYFILE", ""), secret)
    if verifies and not settings.get("CAFILE") and not settings.get("CADIR"):
        context.load_default_certs()
    _configure(context, settings)
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str, secret: bytes | None) -> None:
    try:
        # Without a password given, nobody at the terminal is asked for one.
        context.load_cert_chain(certificate, key or None, secret or b"")
    except (OSError, ValueError) as error:
        raise Fatal(f"unable to load certificate {certificate}: {getattr(error, 'strerror', '') or error}") from None


def _configure(context: ssl.SSLContext, settings: Mapping[str, str]) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if settings.get("CIPHERS"):
            context.set_ciphers(settings["CIPHERS"])
        files, directory = settings.get("CAFILE") or None, settings.get("CADIR") or None
        if files or directory:
            context.load_verify_locations(files, directory)
    except OSError as error:
        raise Fatal(f"unable to use {'authorities' if error.strerror else 'ciphers'}: {error}") from None


def variables(secure: ssl.SSLSocket, is_server: bool) -> dict[bytes, bytes | None]:
    """What -s tells: the protocol, and the other side's certificate if it was asked for and verified."""
    found: dict[str, str] = {
        "SSL_PROTOCOL": secure.version() or "",
        "SSL_VERSION_INTERFACE": "ucspi-ssl",
        "SSL_VERSION_LIBRARY": ssl.OPENSSL_VERSION,
    }
    if secure.session is not None:
        found["SSL_SESSION_ID"] = secure.session.id.hex()
    cipher = secure.cipher()
    if cipher is not None:
        found["SSL_CIPHER"] = cipher[0]
        found["SSL_CIPHER_ALGKEYSIZE"] = found["SSL_CIPHER_USEKEYSIZE"] = str(cipher[2])
        found["SSL_CIPHER_EXPORT"] = "true" if cipher[2] < _EXPORT_BITS else "false"
    found.update(_certificate(secure, "SSL_CLIENT" if is_server else "SSL_SERVER"))
    return {os.fsencode(name): os.fsencode(value).replace(b"\0", b"") for name, value in found.items()}


def _certificate(secure: ssl.SSLSocket, front: str) -> dict[str, str]:
    encoded = secure.getpeercert(True)
    if not encoded:
        return {}
    found = {f"{front}_CERT": ssl.DER_cert_to_PEM_cert(encoded)}
    told: dict[str, Any] = secure.getpeercert() or {}
    for name, key in (("M_VERSION", "version"), ("M_SERIAL", "serialNumber")):
        if key in told:
            found[f"{front}_{name}"] = str(told[key])
    for name, key in (("V_START", "notBefore"), ("V_END", "notAfter")):
        if key in told:
            found[f"{front}_{name}"] = told[key]
    for name, key in (("S_DN", "subject"), ("I_DN", "issuer")):
        parts = [pair for group in told.get(key, ()) for pair in group]
        if parts:
            found[f"{front}_{name}"] = "".join(f"/{_COMPONENTS.get(part, part)}={value}" for part, value in parts)
        for part, value in parts:
            if part in _COMPONENTS:
                found.setdefault(f"{front}_{name}_{_COMPONENTS[part]}", value)
    return found
