"""The settings of the way out: next hops, patience with them, and TLS on both sides."""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.settings.description import CONCURRENCY_LIMIT, Kind, Setting, choice, flag, many, number, present

_YEAR = 366 * 24 * 3600

SENDING: Mapping[str, Setting] = {
    "concurrencyremote": number(
        "Most remote deliveries at once.",
        "Up to {} remote deliveries run at once.",
        "deliveries",
        high=CONCURRENCY_LIMIT,
        clipped=True,
    ),
    "concurrencydestination": number(
        "Most deliveries to one destination at once.",
        "Up to {} deliveries to one destination run at once.",
        "deliveries",
        low=1,
        high=CONCURRENCY_LIMIT,
    ),
    "concurrencydestinationstart": number(
        "Deliveries to a new destination at once, before success or failure moves the limit.",
        "Deliveries to a new destination start with {} at once.",
        "deliveries",
        low=1,
        high=CONCURRENCY_LIMIT,
    ),
    "recipientspertransaction": number(
        "Most recipients in one outgoing transaction.",
        "Up to {} recipients share one SMTP transaction.",
        "recipients",
        low=1,
        high=1000,
    ),
    "outgoingip": Setting(
        Kind.ADDRESS,
        "Local address that outgoing connections come from; empty or 0.0.0.0 leaves it to the system.",
        "Outgoing connections come from {}.",
        "Outgoing connections come from the address that the system chooses.",
    ),
    "ipv6": flag("Whether to use IPv6 addresses of next hops.", "IPv6 when sending (1: yes, 0: no): {}."),
    "remoteport": number(
        "Port of next hops for which smtproutes names none.", "Next hops are called at port {}.", low=1, high=65535
    ),
    "resolvers": many(
        Kind.LIST,
        "DNS servers, as address, address:port or [v6]:port.",
        "DNS server: {}",
        "DNS servers are the system's.",
    ),
    "timeoutdns": number(
        "Longest wait for the answer to one question, all DNS servers and repetitions together.",
        "An answer of the DNS is awaited for {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutconnect": number(
        "Longest wait for a connection.",
        "A connection to another server is awaited for {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutremote": number(
        "Longest wait for any answer of the next hop; the timeouts below are cut to it.",
        "Another server's answer is awaited for at most {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutgreeting": number(
        "Longest wait for the greeting (RFC 5321 section 4.5.3.2.1).",
        "Wait for the greeting is {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeouthelo": number(
        "Longest wait for the answer to EHLO or HELO.",
        "Wait for the answer to EHLO is {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutmail": number(
        "Longest wait for the answer to MAIL (RFC 5321 section 4.5.3.2.2).",
        "Wait for the answer to MAIL is {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutrcpt": number(
        "Longest wait for the answer to RCPT (RFC 5321 section 4.5.3.2.3).",
        "Wait for the answer to RCPT is {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutdatainit": number(
        "Longest wait for the answer to DATA (RFC 5321 section 4.5.3.2.4).",
        "Wait for the answer to DATA is {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutdatablock": number(
        "Longest wait for the next hop to take more content (RFC 5321 section 4.5.3.2.5).",
        "Wait while sending content is {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutdataend": number(
        "Longest wait for the answer to the final dot (RFC 5321 section 4.5.3.2.6).",
        "Wait for the answer to the final dot is {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "reuseseconds": number(
        "How long an idle connection is kept for the destination's next message; 0 closes it at once.",
        "Idle connections are kept for {} seconds.",
        "seconds",
        high=300,
    ),
    "reusemessages": number(
        "Most messages sent through one connection.",
        "One connection carries up to {} messages.",
        "messages",
        low=1,
        high=100_000,
    ),
    "tcptoseconds": number(
        "How long an address that timed out twice is left alone; up to half as much again is added by chance.",
        "Addresses that time out are left alone for {} seconds.",
        "seconds",
        high=_YEAR,
    ),
}

TLS: Mapping[str, Setting] = {
    "servercert": present(
        "Certificate chain shown to clients, PEM, with its private key unless serverkey.pem holds that.",
        "TLS is offered to clients with {}.",
        "TLS is not offered to clients.",
        "servercert.pem",
    ),
    "serverkey": present(
        "Private key of servercert.pem, PEM.",
        "Private key of the server's certificate is {}.",
        "Private key of the server's certificate, if any, is in servercert.pem.",
        "serverkey.pem",
    ),
    "clientcert": present(
        "Certificate chain shown to next hops that ask, PEM, with its key unless clientkey.pem holds it.",
        "Certificate for next hops is {}.",
        "No certificate is shown to next hops.",
        "clientcert.pem",
    ),
    "clientkey": present(
        "Private key of clientcert.pem, PEM.",
        "Private key of the client's certificate is {}.",
        "Private key of the client's certificate, if any, is in clientcert.pem.",
        "clientkey.pem",
    ),
    "tlsremote": choice(
        "TLS towards next hops: when they offer it, never, or always (else the delivery is deferred).",
        "TLS when sending: {}.",
        "may",
        "never",
        "always",
    ),
    "remoteauth": present(
        "Logins at smart hosts: relay as in smtproutes, user, password; for the user that sends alone.",
        "Logins at smart hosts are in {}.",
        "No login at smart hosts.",
        "remoteauth",
    ),
    "remoteauthtls": choice(
        "TLS where a login is given: with a certificate that this host trusts, with any, or as tlsremote says.",
        "TLS where there is a login at a smart host: {}.",
        "verify",
        "encrypt",
        "may",
    ),
    "remoteauthiterations": number(
        "Most rounds of hashing that a smart host's SCRAM may ask for; a million takes about half a second.",
        "A smart host's SCRAM may ask for up to {} iterations.",
        "iterations",
        low=4096,
        high=9_999_999,
    ),
}
