"""The settings of the front door: names that this host goes by, and what is accepted from whom."""

from __future__ import annotations

from collections.abc import Mapping

from ekiden.settings.description import Kind, Setting, choice, line, many, number, present

_YEAR = 366 * 24 * 3600
_LARGE = 1 << 40

NAMES: Mapping[str, Setting] = {
    "me": line("This host's fully qualified name.", "This host is called {}."),
    "bouncehost": line("Host of the sender of bounces.", "Bounces come from a user at {}."),
    "defaultdomain": line(
        "Domain added to host names without a dot in injected headers.", "Host names without a dot get the domain {}."
    ),
    "defaulthost": line(
        "Host added to addresses without one when injected.", "Addresses without a host get the host {}."
    ),
    "doublebouncehost": line("Host that double bounces go to.", "Double bounces go to a user at {}."),
    "envnoathost": line(
        "Domain of envelope recipients without @.", "Recipients without a host are taken to be at {}."
    ),
    "helohost": line(
        "Name given in HELO and EHLO when sending.", "To other servers this host introduces itself as {}."
    ),
    "idhost": line("Host in Message-ID fields made here.", "Message-IDs made here end in {}."),
    "localiphost": line(
        "Name put for an address literal in a recipient that is an address of this host.",
        "A recipient at one of this host's IP addresses is taken to be at {}.",
    ),
    "plusdomain": line(
        "Domain added to host names ending in a plus sign in injected headers.",
        "Host names ending in a plus sign get the domain {}.",
    ),
    "smtpgreeting": line("Text after 220 in the SMTP greeting.", "SMTP clients are greeted with: 220 {}."),
}

RECEIVING: Mapping[str, Setting] = {
    "listen": many(
        Kind.LISTENERS,
        "Where the daemon listens: service, address and port (or socket path), then the options auth= and mode=.",
        "Listening: {}",
        "Not listening anywhere.",
    ),
    "badmailfrom": many(
        Kind.SET,
        "Senders refused in MAIL: addresses, or @host for a whole host.",
        "Mail from {} is refused.",
        "No sender is refused.",
    ),
    "badrcptto": many(
        Kind.SET,
        "Recipients refused in RCPT: addresses, or @host for a whole host.",
        "Mail to {} is refused.",
        "No recipient is refused, other than by rcpthosts.",
    ),
    "rcpthosts": many(
        Kind.SET,
        "Hosts, and with a leading dot domains, that mail is accepted for; without the file any host.",
        "Mail to {} is accepted from every SMTP client.",
        "Mail to any host is accepted from every SMTP client: an open relay.",
    ),
    "morercpthosts": many(
        Kind.SET,
        "More entries for rcpthosts; qmail-newmrh compiles them.",
        "Mail to {} is accepted from every SMTP client.",
        "Nothing is added to rcpthosts.",
    ),
    "morercpthosts_cdb": present(
        "The compiled morercpthosts.", "{}", "Nothing is added to rcpthosts.", "morercpthosts.cdb"
    ),
    "databytes": number(
        "Largest message accepted; 0 is no limit.",
        "Messages of SMTP clients may have {} bytes (0: any number).",
        "octets",
        high=_LARGE,
    ),
    "recipientsmax": number(
        "Most recipients accepted in one transaction.",
        "SMTP clients may name up to {} recipients a message.",
        "recipients",
        low=100,
        high=1_000_000,
    ),
    "errorsmax": number(
        "Refused commands after which the client is sent away.",
        "SMTP clients are sent away after {} errors.",
        "errors",
        low=1,
    ),
    "commandbytes": number(
        "Longest command line, with its parameters and CRLF.",
        "SMTP commands may be {} bytes long.",
        "octets",
        low=512,
        high=1 << 20,
    ),
    "linebytes": number(
        "Longest line of a message's content, without CRLF; 0 is no limit.",
        "Message lines are limited to {} bytes (0: no limit).",
        "octets",
    ),
    "hopsmax": number(
        "Received and Delivered-To fields at which a message counts as looping.",
        "Messages with {} hops are taken to be looping.",
        "fields",
        low=1,
        high=10_000,
    ),
    "barenewline": choice(
        "What to do with a CR or LF that stands alone in content: refuse the message or make it CRLF.",
        "Bare newlines in SMTP DATA: {}.",
        "refuse",
        "normalise",
    ),
    "timeoutsmtpd": number(
        "Longest wait for an SMTP client's next octets, and for a command as a whole.",
        "A silent SMTP client is sent away after {} seconds.",
        "seconds",
        low=1,
        high=_YEAR,
    ),
    "timeoutqueue": number(
        "Longest wait for the queue before whoever hands in a message is told to try again (451).",
        "The queue has {} seconds to take a message.",
        "seconds",
        low=1,
        high=600,
    ),
    "sessionseconds": number(
        "Longest an SMTP session may last; 0 is no limit.",
        "SMTP sessions are limited to {} seconds (0: no limit).",
        "seconds",
        high=_YEAR,
    ),
    "connectionsmax": number(
        "Most clients connected to one listener at once.",
        "Up to {} clients may be connected at once.",
        "connections",
        low=1,
        high=1_000_000,
    ),
    "connectionsperclient": number(
        "Most connections of one client address at once.",
        "One client may have up to {} connections.",
        "connections",
        low=1,
        high=1_000_000,
    ),
    "listenbacklog": number(
        "Connections that the kernel keeps waiting until they are accepted.",
        "Up to {} connections wait to be accepted.",
        "connections",
        low=1,
        high=65535,
    ),
    "proxyclients": many(
        Kind.LIST,
        "Networks of the proxies that name the real client in a PROXY header.",
        "PROXY header is taken from {}.",
        "No PROXY headers.",
    ),
    "authmechanisms": many(
        Kind.LIST,
        "How SMTP clients may log in, where they may: plain, login, scram-sha-256.",
        "SMTP offers AUTH by {}",
        "SMTP offers AUTH by plain and login, where it does.",
    ),
    "authplaintext": choice(
        "AUTH without TLS: for nobody, for clients on this host, or for all.",
        "AUTH without TLS: {}.",
        "never",
        "local",
        "always",
    ),
    "senderlogins": many(
        Kind.MAP,
        "Senders, user@host or @host, and the logins that may use them, with spaces between; %u is the user's own.",
        "Sender and logins: {}",
        "Who has logged in may send as anybody.",
    ),
    "inlinebytes": number(
        "Content up to this size is kept in memory and in the queue's files, larger content in a file of its own.",
        "Messages up to {} bytes get no file of their own in the queue.",
        "octets",
        high=32 << 20,
    ),
    "injectconnections": number(
        "Most programs of this machine that may be handing in a message at once.",
        "Up to {} programs may inject at once.",
        "connections",
        low=1,
        high=100_000,
    ),
    "injectperuser": number(
        "The same for the programs of one user.",
        "Up to {} programs of one user may inject at once.",
        "connections",
        low=1,
        high=100_000,
    ),
}
