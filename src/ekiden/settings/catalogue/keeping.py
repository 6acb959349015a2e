"""The settings of what happens between: routing, the queue, bounces, processes and logs."""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.settings.description import CONCURRENCY_LIMIT, Kind, Setting, choice, line, many, number

_YEAR = 366 * 24 * 3600
_LARGE = 1 << 40

ROUTING: Mapping[str, Setting] = {
    "locals": many(
        Kind.SET,
        "Domains delivered on this host.",
        "Mail to {} is delivered on this host.",
        "Mail to what control/me says is delivered on this host.",
    ),
    "virtualdomains": many(
        Kind.MAP,
        "domain:prefix, user@domain:prefix or .domain:prefix; an empty prefix is an exception.",
        "Virtual: {}",
        "No domain is virtual.",
    ),
    "smtproutes": many(
        Kind.MAP,
        "domain:relay or domain:relay:port, instead of the domain's MX; an empty domain is every other one.",
        "Route: {}",
        "Every destination is found through DNS.",
    ),
    "percenthack": many(
        Kind.SET,
        "Domains where user%host@domain means user@host.",
        "user%host@{} means user@host.",
        "A percent sign in an address has no meaning.",
    ),
    "qmqpservers": many(
        Kind.LIST,
        "Addresses of the QMQP servers that qmail-qmqpc hands messages to, tried in order.",
        "QMQP server: {}",
        "There is no QMQP server.",
    ),
    "defaultdelivery": Setting(
        Kind.TEXT,
        "Delivery instructions for users without a .qmail file, as dot-qmail(5) has them.",
        "Users without a .qmail file get: {}",
    ),
    "concurrencylocal": number(
        "Most local deliveries at once.",
        "Up to {} local deliveries run at once.",
        "deliveries",
        high=CONCURRENCY_LIMIT,
        clipped=True,
    ),
    "localahead": number(
        "Local deliveries handed over beyond concurrencylocal, which begin as others end.",
        "Up to {} more local deliveries are handed over, to begin as others end.",
        "deliveries",
        high=CONCURRENCY_LIMIT,
    ),
    "programseconds": number(
        "How long a program in a .qmail file may run before it is killed and the delivery deferred; 0 is for ever.",
        "Programs in .qmail files may run for {} seconds.",
        "seconds",
        high=_YEAR,
    ),
    "quotabytes": number(
        "Most octets of messages in each Maildir (Maildir++ quota); 0 is as the Maildir's own maildirsize says.",
        "Maildirs may hold {} bytes (0: as maildirsize says).",
        "octets",
        high=_LARGE * 1024,
    ),
    "quotamessages": number(
        "Most messages in each Maildir, in the same way.",
        "Maildirs may hold {} messages (0: as maildirsize says).",
        "messages",
        high=_LARGE,
    ),
    "quotaover": choice(
        "What becomes of mail for a Maildir that is over its quota: it bounces, or is tried again.",
        "Mail for a Maildir over its quota: {}.",
        "fail",
        "defer",
    ),
}

QUEUE: Mapping[str, Setting] = {
    "queuelifetime": number(
        "How long delivery is tried before the message bounces.",
        "Delivery is tried for {} seconds.",
        "seconds",
        high=10 * _YEAR,
    ),
    "ledgerdays": number(
        "How long the ledger keeps how messages ended, for `ekiden audit` and `ekiden trace`; 0 keeps none.",
        "The ledger keeps how messages ended for {} days.",
        "days",
        high=36_500,
    ),
    "backofflocal": number(
        "Root of the seconds between the first attempts of a local delivery; the wait grows as a square.",
        "Local retries: steps of {} in the root of the age.",
        "root of seconds",
        low=1,
        high=1000,
    ),
    "backoffremote": number(
        "The same for a remote delivery.",
        "Remote retries: steps of {} in the root of the age.",
        "root of seconds",
        low=1,
        high=1000,
    ),
    "activemessages": number(
        "Most messages held in memory for local delivery, and for remote; the others wait on disk.",
        "Up to {} messages are held in memory for local delivery, and for remote.",
        "messages",
        low=10,
        high=1_000_000,
    ),
    "activebytes": number(
        "Most content held in memory for delivery.",
        "Up to {} bytes of content are held in memory.",
        "octets",
        low=1 << 20,
        high=_LARGE,
    ),
    "checkpointpages": number(
        "Pages of the database's log after which they are written back into the database.",
        "The queue's database is written back after {} pages.",
        "pages",
        low=100,
        high=1_000_000,
    ),
}

BOUNCES: Mapping[str, Setting] = {
    "bouncefrom": line("User part of the sender of bounces.", "Bounces come from the user {}."),
    "doublebounceto": line(
        "User that double bounces go to; an empty line throws them away.", "Double bounces go to the user {}."
    ),
    "delaynotice": number(
        "After how long a sender who asked for it (NOTIFY=DELAY) is told of a delay; 0 is never.",
        "Delay notices, when asked for, are sent after {} seconds.",
        "seconds",
        high=_YEAR,
    ),
    "bouncebytes": number(
        "Most octets of the original that a bounce returns; of a larger one the header only.",
        "Bounces return up to {} bytes of the message.",
        "octets",
        high=_LARGE,
    ),
}

PROCESSES: Mapping[str, Setting] = {
    "smtpdprocesses": number(
        "Processes that speak with SMTP clients; 0 is as the number of processors asks for.",
        "SMTP server processes: {} (0: by the number of processors).",
        "processes",
        high=256,
    ),
    "remoteprocesses": number(
        "Processes that deliver remotely; 0 is as the number of processors asks for.",
        "Remote delivery processes: {} (0: by the number of processors).",
        "processes",
        high=256,
    ),
    "shutdownseconds": number(
        "How long sessions and deliveries together may still take after a stop is asked for.",
        "Shutdown waits up to {} seconds.",
        "seconds",
        high=86400,
    ),
    "reloadseconds": number(
        "How long sessions may go on after a reload, in the process and with the settings that they began with.",
        "After a reload sessions may go on for {} seconds.",
        "seconds",
        high=_YEAR,
    ),
    "isolation": choice(
        "Whether roles give up, when they have started, what they do not need of the kernel (docs/security.md).",
        "Isolation of the roles is {}.",
        "on",
        "off",
    ),
    "logtarget": choice(
        "Where the log goes; file is log/ekiden.log under the home.",
        "The log goes to: {}.",
        "file",
        "stderr",
        "syslog",
        "journald",
    ),
    "logformat": choice(
        "Form of the log: lines as qmail-log(5) has them, or one JSON object a line.",
        "The log's form is: {}.",
        "qmail",
        "json",
    ),
    "logfilebytes": number(
        "Size at which a log file is closed and the next begun.",
        "Log files hold up to {} bytes.",
        "octets",
        low=4096,
        high=_LARGE,
    ),
    "logfilecount": number("Most log files kept.", "Up to {} log files are kept.", "files", low=2, high=100_000),
}
