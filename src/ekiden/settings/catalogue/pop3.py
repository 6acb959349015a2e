"""The settings of the POP3 server: whose passwords, which mailbox, and for how long."""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.settings.description import Kind, Setting, choice, line, many, number, present

POP3: Mapping[str, Setting] = {
    "pop3mailbox": line(
        "A user's mailbox, from the home directory; %u is the user's name; empty: as in defaultdelivery.",
        "POP3 users read the mailbox {} (empty: the one that mail is delivered to by default).",
    ),
    "pop3passwords": many(
        Kind.LIST,
        "Where passwords are looked for, in order: file (pop3users), system, or a checkpassword command.",
        "POP3 passwords are looked for in: {}",
        "POP3 passwords are looked for in pop3users, then among the system's users.",
    ),
    "pop3users": present(
        "Users and secrets; not to be readable by everyone.",
        "{}",
        "No POP3 users but the system's.",
        "pop3users",
    ),
    "pop3mechanisms": many(
        Kind.LIST,
        "How users may log in other than by USER and PASS: plain, scram-sha-256, apop.",
        "POP3 offers the mechanism {}",
        "POP3 offers USER, and the mechanism plain.",
    ),
    "pop3plaintext": choice(
        "Passwords without TLS: auto is always from this host, and from others if there is no certificate.",
        "Passwords over POP3 without TLS: {}.",
        "auto",
        "always",
        "never",
    ),
    "timeoutpop3d": number(
        "Longest wait for a POP3 client's next command (RFC 1939: at least ten minutes).",
        "A silent POP3 client is sent away after {} seconds.",
        "seconds",
        low=600,
        high=86_400,
    ),
    "pop3logindelay": number(
        "Shortest time between two logins of a user; 0 is none.",
        "POP3 users may log in every {} seconds.",
        "seconds",
        high=86_400,
    ),
    "pop3dprocesses": number(
        "Processes that speak POP3 with clients up to their login; 0 is one per two processors.",
        "POP3 logins are served by {} processes (0: one per two processors).",
        "processes",
        high=1000,
    ),
}
