"""Every setting, once: its name, type, default, bounds and words.

A setting's name is its control file's name. ``Settings`` travels between processes as msgpack and is checked again
there. The host names that qmail derives from ``me`` are filled in when the object is made, so that a reader of
``Settings`` never asks what a missing file means.

Facts about qmail's files are from qmail-control(5) and the manual pages of the programs named there.
"""

# Without `from __future__ import annotations`: the descriptions are then at hand without evaluating any string.

import functools
from collections.abc import Mapping
from typing import Annotated, Literal, get_args

import msgspec

from ekiden.settings.description import Kind, Section, Setting, choice, flag, line, many, number, present

Service = Literal["smtp", "smtps", "submission", "lmtp", "qmtp", "qmqp", "pop3", "pop3s"]
SERVICES: tuple[str, ...] = get_args(Service)

CONCURRENCY_LIMIT = 10_000
"""Deliveries. What a larger ``concurrencylocal`` or ``concurrencyremote`` silently counts as."""

_YEAR = 366 * 24 * 3600
_LARGE = 1 << 40

# Stand for "as me says"; compared by identity, so that no value in a file can be taken for them.
_ME: bytes = b"(me)"
_ONLY_ME: frozenset[bytes] = frozenset({_ME})


class Listener(msgspec.Struct, frozen=True):
    """One line of control/listen: what is spoken, and where.

    ``host`` is ``*`` (all IPv4 and IPv6 addresses), ``[::]`` or another address, and empty for a unix socket, whose
    ``path`` is set instead. ``port`` is 0 for a unix socket. ``options`` are the line's ``name=value`` words.
    """

    service: Service
    host: str = ""
    port: int = 0
    path: str = ""
    options: dict[str, str] = {}

    @property
    def where(self) -> str:
        """The address as control/listen has it: ``127.0.0.1:25``, ``[::1]:25``, ``*:25`` or a path."""
        if self.path:
            return self.path
        host = f"[{self.host}]" if ":" in self.host and not self.host.startswith("[") else self.host
        return f"{host}:{self.port}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one home, complete and within bounds. Domains and addresses in sets and keys are lower-case."""

    # Names of this host

    me: Annotated[bytes, line(Section.NAMES, "This host's fully qualified name.", "My name is {}.")]
    bouncehost: Annotated[
        bytes, line(Section.NAMES, "Host of the sender of bounces.", "Bounce host name is {}.", from_me=True)
    ] = _ME
    defaultdomain: Annotated[
        bytes,
        line(
            Section.NAMES,
            "Domain added to host names without a dot in injected headers.",
            "Default domain name is {}.",
            from_me=True,
        ),
    ] = _ME
    defaulthost: Annotated[
        bytes,
        line(
            Section.NAMES,
            "Host added to addresses without one when injected.",
            "Default host name is {}.",
            from_me=True,
        ),
    ] = _ME
    doublebouncehost: Annotated[
        bytes, line(Section.NAMES, "Host that double bounces go to.", "2B recipient host: {}.", from_me=True)
    ] = _ME
    envnoathost: Annotated[
        bytes,
        line(Section.NAMES, "Domain of envelope recipients without @.", "Presumed domain name is {}.", from_me=True),
    ] = _ME
    helohost: Annotated[
        bytes,
        line(
            Section.NAMES,
            "Name given in HELO and EHLO when sending.",
            "SMTP client HELO host name is {}.",
            from_me=True,
        ),
    ] = _ME
    idhost: Annotated[
        bytes,
        line(Section.NAMES, "Host in Message-ID fields made here.", "Message-ID host name is {}.", from_me=True),
    ] = _ME
    localiphost: Annotated[
        bytes,
        line(
            Section.NAMES,
            "Name put for an address literal in a recipient that is an address of this host.",
            "Local IP address becomes {}.",
            from_me=True,
        ),
    ] = _ME
    plusdomain: Annotated[
        bytes,
        line(
            Section.NAMES,
            "Domain added to host names ending in a plus sign in injected headers.",
            "Plus domain name is {}.",
            from_me=True,
        ),
    ] = _ME
    smtpgreeting: Annotated[
        bytes, line(Section.NAMES, "Text after 220 in the SMTP greeting.", "SMTP greeting: 220 {}.", from_me=True)
    ] = _ME

    # Receiving

    listen: Annotated[
        tuple[Listener, ...],
        many(
            Section.RECEIVING,
            Kind.LISTENERS,
            "Where the daemon listens: service, address and port (or socket path), then name=value options.",
            "Listening: {}.",
            "Not listening anywhere.",
        ),
    ] = ()
    badmailfrom: Annotated[
        frozenset[bytes],
        many(
            Section.RECEIVING,
            Kind.SET,
            "Senders refused in MAIL: addresses, or @host for a whole host.",
            "{} not accepted in MAIL FROM.",
            "Any MAIL FROM is allowed.",
        ),
    ] = frozenset()
    badrcptto: Annotated[
        frozenset[bytes],
        many(
            Section.RECEIVING,
            Kind.SET,
            "Recipients refused in RCPT: addresses, or @host for a whole host.",
            "{} not accepted in RCPT TO.",
            "Any RCPT TO is allowed, as far as rcpthosts allows it.",
        ),
    ] = frozenset()
    rcpthosts: Annotated[
        frozenset[bytes] | None,
        many(
            Section.RECEIVING,
            Kind.SET,
            "Hosts, and with a leading dot domains, that mail is accepted for; without the file any host.",
            "SMTP clients may send messages to recipients at {}.",
            "SMTP clients may send messages to any recipient.",
        ),
    ] = None
    morercpthosts: Annotated[
        frozenset[bytes],
        many(
            Section.RECEIVING,
            Kind.SET,
            "More entries for rcpthosts; qmail-newmrh compiles them.",
            "SMTP clients may send messages to recipients at {}.",
            "No effect.",
        ),
    ] = frozenset()
    morercpthosts_cdb: Annotated[
        str,
        present(
            Section.RECEIVING,
            "The compiled morercpthosts.",
            "{}",
            "No effect.",
            "morercpthosts.cdb",
        ),
    ] = ""
    databytes: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Largest message accepted; 0 is no limit.",
            "SMTP DATA limit is {} bytes.",
            "octets",
            high=_LARGE,
        ),
    ] = 0
    recipientsmax: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Most recipients accepted in one transaction.",
            "SMTP clients may name up to {} recipients a message.",
            "recipients",
            100,
            1_000_000,
        ),
    ] = 1000
    errorsmax: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Refused commands after which the client is sent away.",
            "SMTP clients are sent away after {} errors.",
            "errors",
            1,
        ),
    ] = 20
    commandbytes: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Longest command line, with its parameters and CRLF.",
            "SMTP commands may be {} bytes long.",
            "octets",
            512,
            1 << 20,
        ),
    ] = 2048
    linebytes: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Longest line of a message's content, without CRLF; 0 is no limit.",
            "Message lines are limited to {} bytes (0: no limit).",
            "octets",
        ),
    ] = 0
    hopsmax: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Received and Delivered-To fields at which a message counts as looping.",
            "Messages with {} hops are taken to be looping.",
            "fields",
            1,
            10_000,
        ),
    ] = 100
    barenewline: Annotated[
        Literal["refuse", "normalise"],
        choice(
            Section.RECEIVING,
            "What to do with a CR or LF that stands alone in content: refuse the message or make it CRLF.",
            "Bare newlines in SMTP DATA: {}.",
            "refuse",
            "normalise",
        ),
    ] = "refuse"
    timeoutsmtpd: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Longest wait for the next octets of an SMTP client.",
            "SMTP server data timeout is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 1200
    sessionseconds: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Longest an SMTP session may last; 0 is no limit.",
            "SMTP sessions are limited to {} seconds (0: no limit).",
            "seconds",
            0,
            _YEAR,
        ),
    ] = 0
    connectionsmax: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Most clients connected to one listener at once.",
            "Up to {} clients may be connected at once.",
            "connections",
            1,
            1_000_000,
        ),
    ] = 2000
    connectionsperclient: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Most connections of one client address at once.",
            "One client may have up to {} connections.",
            "connections",
            1,
            1_000_000,
        ),
    ] = 200
    listenbacklog: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Connections that the kernel keeps waiting until they are accepted.",
            "Up to {} connections wait to be accepted.",
            "connections",
            1,
            65535,
        ),
    ] = 4096
    proxyclients: Annotated[
        tuple[str, ...],
        many(
            Section.RECEIVING,
            Kind.LIST,
            "Networks of the proxies that name the real client in a PROXY header.",
            "PROXY header is taken from {}.",
            "No PROXY headers.",
        ),
    ] = ()
    inlinebytes: Annotated[
        int,
        number(
            Section.RECEIVING,
            "Content up to this size is kept in the queue's database, larger content in a file.",
            "Messages up to {} bytes are kept in the queue's database.",
            "octets",
            0,
            32 << 20,
        ),
    ] = 262144

    # Routing and local addresses

    locals: Annotated[
        frozenset[bytes],
        many(
            Section.ROUTING,
            Kind.SET,
            "Domains delivered on this host.",
            "Messages for {} are delivered locally.",
            "Messages for me are delivered locally.",
            from_me=True,
        ),
    ] = _ONLY_ME
    virtualdomains: Annotated[
        dict[bytes, bytes],
        many(
            Section.ROUTING,
            Kind.MAP,
            "domain:prefix, user@domain:prefix or .domain:prefix; an empty prefix is an exception.",
            "Virtual domain: {}",
            "No virtual domains.",
        ),
    ] = {}
    smtproutes: Annotated[
        dict[bytes, bytes],
        many(
            Section.ROUTING,
            Kind.MAP,
            "domain:relay or domain:relay:port, instead of the domain's MX; an empty domain is every other one.",
            "SMTP route: {}",
            "No artificial SMTP routes.",
        ),
    ] = {}
    percenthack: Annotated[
        frozenset[bytes],
        many(
            Section.ROUTING,
            Kind.SET,
            "Domains where user%host@domain means user@host.",
            "The percent hack is allowed for user%host@{}.",
            "The percent hack is not allowed.",
        ),
    ] = frozenset()
    qmqpservers: Annotated[
        tuple[bytes, ...],
        many(
            Section.ROUTING,
            Kind.LIST,
            "Addresses of the QMQP servers that qmail-qmqpc hands messages to, tried in order.",
            "QMQP server: {}.",
            "No QMQP servers.",
        ),
    ] = ()
    defaultdelivery: Annotated[
        bytes,
        line(
            Section.ROUTING,
            "Delivery instruction for users without a .qmail file.",
            "Default delivery is {}.",
        ),
    ] = b"./Mailbox"
    concurrencylocal: Annotated[
        int,
        number(
            Section.ROUTING,
            "Most local deliveries at once.",
            "Local concurrency is {}.",
            "deliveries",
            0,
            CONCURRENCY_LIMIT,
            clipped=True,
        ),
    ] = 10

    # Sending

    concurrencyremote: Annotated[
        int,
        number(
            Section.SENDING,
            "Most remote deliveries at once.",
            "Remote concurrency is {}.",
            "deliveries",
            0,
            CONCURRENCY_LIMIT,
            clipped=True,
        ),
    ] = 20
    concurrencydestination: Annotated[
        int,
        number(
            Section.SENDING,
            "Most deliveries to one destination at once.",
            "Concurrency to one destination is at most {}.",
            "deliveries",
            1,
            CONCURRENCY_LIMIT,
        ),
    ] = 20
    concurrencydestinationstart: Annotated[
        int,
        number(
            Section.SENDING,
            "Deliveries to a new destination at once, before success or failure moves the limit.",
            "Concurrency to a new destination is {}.",
            "deliveries",
            1,
            CONCURRENCY_LIMIT,
        ),
    ] = 5
    recipientspertransaction: Annotated[
        int,
        number(
            Section.SENDING,
            "Most recipients in one outgoing transaction.",
            "Up to {} recipients share one SMTP transaction.",
            "recipients",
            1,
            1000,
        ),
    ] = 50
    outgoingip: Annotated[
        str,
        Setting(
            Section.SENDING,
            Kind.ADDRESS,
            "Local address that outgoing connections come from; empty or 0.0.0.0 leaves it to the system.",
            "Outgoing connections come from {}.",
            "Outgoing connections come from the address that the system chooses.",
        ),
    ] = ""
    ipv6: Annotated[
        bool,
        flag(
            Section.SENDING, "Whether to use IPv6 addresses of next hops.", "IPv6 when sending (1: yes, 0: no): {}."
        ),
    ] = True
    remoteport: Annotated[
        int,
        number(
            Section.SENDING,
            "Port of next hops for which smtproutes names none.",
            "Next hops are called at port {}.",
            "",
            1,
            65535,
        ),
    ] = 25
    resolvers: Annotated[
        tuple[str, ...],
        many(
            Section.SENDING,
            Kind.LIST,
            "DNS servers, as address, address:port or [v6]:port.",
            "DNS server: {}.",
            "DNS servers are the system's.",
        ),
    ] = ()
    timeoutconnect: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for a connection.",
            "SMTP client connection timeout is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 60
    timeoutremote: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for any answer of the next hop; the timeouts below are cut to it.",
            "SMTP client data timeout is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 1200
    timeoutgreeting: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for the greeting (RFC 5321 section 4.5.3.2.1).",
            "Wait for the greeting is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 300
    timeouthelo: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for the answer to EHLO or HELO.",
            "Wait for the answer to EHLO is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 300
    timeoutmail: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for the answer to MAIL (RFC 5321 section 4.5.3.2.2).",
            "Wait for the answer to MAIL is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 300
    timeoutrcpt: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for the answer to RCPT (RFC 5321 section 4.5.3.2.3).",
            "Wait for the answer to RCPT is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 300
    timeoutdatainit: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for the answer to DATA (RFC 5321 section 4.5.3.2.4).",
            "Wait for the answer to DATA is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 120
    timeoutdatablock: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for the next hop to take more content (RFC 5321 section 4.5.3.2.5).",
            "Wait while sending content is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 180
    timeoutdataend: Annotated[
        int,
        number(
            Section.SENDING,
            "Longest wait for the answer to the final dot (RFC 5321 section 4.5.3.2.6).",
            "Wait for the answer to the final dot is {} seconds.",
            "seconds",
            1,
            _YEAR,
        ),
    ] = 600
    reuseseconds: Annotated[
        int,
        number(
            Section.SENDING,
            "How long an idle connection is kept for the destination's next message; 0 closes it at once.",
            "Idle connections are kept for {} seconds.",
            "seconds",
            0,
            300,
        ),
    ] = 5
    reusemessages: Annotated[
        int,
        number(
            Section.SENDING,
            "Most messages sent through one connection.",
            "One connection carries up to {} messages.",
            "messages",
            1,
            100_000,
        ),
    ] = 100
    tcptoseconds: Annotated[
        int,
        number(
            Section.SENDING,
            "How long an address that timed out twice is left alone; up to half as much again is added by chance.",
            "Addresses that time out are left alone for {} seconds.",
            "seconds",
            0,
            _YEAR,
        ),
    ] = 3840

    # The queue

    queuelifetime: Annotated[
        int,
        number(
            Section.QUEUE,
            "How long delivery is tried before the message bounces.",
            "Message lifetime in the queue is {} seconds.",
            "seconds",
            0,
            10 * _YEAR,
        ),
    ] = 604800
    backofflocal: Annotated[
        int,
        number(
            Section.QUEUE,
            "Root of the seconds between the first attempts of a local delivery; the wait grows as a square.",
            "Local retries: steps of {} in the root of the age.",
            "root of seconds",
            1,
            1000,
        ),
    ] = 10
    backoffremote: Annotated[
        int,
        number(
            Section.QUEUE,
            "The same for a remote delivery.",
            "Remote retries: steps of {} in the root of the age.",
            "root of seconds",
            1,
            1000,
        ),
    ] = 20
    activemessages: Annotated[
        int,
        number(
            Section.QUEUE,
            "Most messages held in memory for delivery; the others wait on disk.",
            "Up to {} messages are held in memory.",
            "messages",
            10,
            1_000_000,
        ),
    ] = 2000
    activebytes: Annotated[
        int,
        number(
            Section.QUEUE,
            "Most content held in memory for delivery.",
            "Up to {} bytes of content are held in memory.",
            "octets",
            1 << 20,
            _LARGE,
        ),
    ] = 33554432
    checkpointpages: Annotated[
        int,
        number(
            Section.QUEUE,
            "Pages of the database's log after which they are written back into the database.",
            "The queue's database is written back after {} pages.",
            "pages",
            100,
            1_000_000,
        ),
    ] = 4000

    # Bounces

    bouncefrom: Annotated[
        bytes, line(Section.BOUNCES, "User part of the sender of bounces.", "Bounce user name is {}.")
    ] = b"MAILER-DAEMON"
    doublebounceto: Annotated[
        bytes, line(Section.BOUNCES, "User that double bounces go to.", "2B recipient user: {}.")
    ] = b"postmaster"
    delaynotice: Annotated[
        int,
        number(
            Section.BOUNCES,
            "After how long a sender who asked for it (NOTIFY=DELAY) is told of a delay; 0 is never.",
            "Delay notices, when asked for, are sent after {} seconds.",
            "seconds",
            0,
            _YEAR,
        ),
    ] = 14400
    bouncebytes: Annotated[
        int,
        number(
            Section.BOUNCES,
            "Most octets of the original that a bounce returns; of a larger one the header only.",
            "Bounces return up to {} bytes of the message.",
            "octets",
            0,
            _LARGE,
        ),
    ] = 51200

    # TLS

    servercert: Annotated[
        str,
        present(
            Section.TLS,
            "Certificate chain shown to clients, PEM, with its private key unless serverkey.pem holds that.",
            "TLS is offered to clients with {}.",
            "TLS is not offered to clients.",
            "servercert.pem",
        ),
    ] = ""
    serverkey: Annotated[
        str,
        present(
            Section.TLS,
            "Private key of servercert.pem, PEM.",
            "Private key of the server's certificate is {}.",
            "Private key of the server's certificate, if any, is in servercert.pem.",
            "serverkey.pem",
        ),
    ] = ""
    clientcert: Annotated[
        str,
        present(
            Section.TLS,
            "Certificate chain shown to next hops that ask, PEM, with its key unless clientkey.pem holds it.",
            "Certificate for next hops is {}.",
            "No certificate is shown to next hops.",
            "clientcert.pem",
        ),
    ] = ""
    clientkey: Annotated[
        str,
        present(
            Section.TLS,
            "Private key of clientcert.pem, PEM.",
            "Private key of the client's certificate is {}.",
            "Private key of the client's certificate, if any, is in clientcert.pem.",
            "clientkey.pem",
        ),
    ] = ""
    tlsremote: Annotated[
        Literal["may", "never", "always"],
        choice(
            Section.TLS,
            "TLS towards next hops: when they offer it, never, or always (else the delivery is deferred).",
            "TLS when sending: {}.",
            "may",
            "never",
            "always",
        ),
    ] = "may"

    # Processes and logs

    smtpdprocesses: Annotated[
        int,
        number(
            Section.PROCESSES,
            "Processes that speak with SMTP clients; 0 is as the number of processors asks for.",
            "SMTP server processes: {} (0: by the number of processors).",
            "processes",
            0,
            256,
        ),
    ] = 0
    remoteprocesses: Annotated[
        int,
        number(
            Section.PROCESSES,
            "Processes that deliver remotely; 0 is as the number of processors asks for.",
            "Remote delivery processes: {} (0: by the number of processors).",
            "processes",
            0,
            256,
        ),
    ] = 0
    shutdownseconds: Annotated[
        int,
        number(
            Section.PROCESSES,
            "How long deliveries and sessions may still take after a stop is asked for.",
            "Shutdown waits up to {} seconds.",
            "seconds",
            0,
            86400,
        ),
    ] = 60
    logtarget: Annotated[
        Literal["file", "stderr", "syslog", "journald"],
        choice(
            Section.PROCESSES,
            "Where the log goes; file is log/current under the home.",
            "The log goes to: {}.",
            "file",
            "stderr",
            "syslog",
            "journald",
        ),
    ] = "file"
    logformat: Annotated[
        Literal["qmail", "json"],
        choice(
            Section.PROCESSES,
            "Form of the log: lines as qmail-log(5) has them, or one JSON object a line.",
            "The log's form is: {}.",
            "qmail",
            "json",
        ),
    ] = "qmail"
    logfilebytes: Annotated[
        int,
        number(
            Section.PROCESSES,
            "Size at which a log file is closed and the next begun.",
            "Log files hold up to {} bytes.",
            "octets",
            4096,
            _LARGE,
        ),
    ] = 104857600
    logfilecount: Annotated[
        int,
        number(
            Section.PROCESSES,
            "Most log files kept.",
            "Up to {} log files are kept.",
            "files",
            2,
            100_000,
        ),
    ] = 10

    def __post_init__(self) -> None:
        for name in _FROM_ME:
            if getattr(self, name) is _ME:
                msgspec.structs.force_setattr(self, name, self.me)
        if self.locals is _ONLY_ME:
            msgspec.structs.force_setattr(self, "locals", frozenset({self.me.lower()}))


@functools.cache
def descriptions() -> Mapping[str, Setting]:
    """Every setting's description by the setting's name, in the schema's order."""
    return {name: hint.__metadata__[0] for name, hint in Settings.__annotations__.items()}


def default(name: str) -> object:
    """What the setting is without its file; the settings that follow ``me`` (and ``me`` itself) are empty."""
    return getattr(_BARE, name)


def control_file(name: str) -> str:
    """The name under control/ of the setting ``name``."""
    return descriptions()[name].file or name


_FROM_ME = tuple(
    name for name, description in descriptions().items() if description.from_me and description.kind is Kind.LINE
)
_BARE = Settings(me=b"", locals=frozenset())
