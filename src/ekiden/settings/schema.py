"""Every setting, once: its name, type and default. What it means and may be is in the catalogue.

A setting's name is its control file's name. ``Settings`` travels between processes as msgpack. The host names that
qmail derives from ``me`` are filled in when the object is made, so that a reader of ``Settings`` never asks what a
missing file means.
"""

from typing import Literal, get_args

import msgspec

Service = Literal["smtp", "smtps", "submission", "lmtp", "qmtp", "qmqp", "pop3", "pop3s"]
SERVICES: tuple[str, ...] = get_args(Service)

# Stand for "as me says"; compared by identity, so that nothing read from a file can be taken for them.
_ME = b"(me)"
_ONLY_ME = frozenset({_ME})


class Listener(msgspec.Struct, frozen=True):
    """One line of control/listen: what is spoken, and where.

    ``host`` is ``*`` (all IPv4 and IPv6 addresses), an IPv4 address or an IPv6 address in brackets, as ``[::]``. A
    unix socket has a ``path`` instead, and ``port`` 0. ``options`` are the line's ``name=value`` words.
    """

    service: Service
    host: str = ""
    port: int = 0
    path: str = ""
    options: dict[str, str] = {}

    @property
    def address(self) -> str:
        """The address to bind, without brackets; empty for ``*`` and for a unix socket."""
        return "" if self.host == "*" else self.host.strip("[]")

    @property
    def where(self) -> str:
        """The address as control/listen has it: ``127.0.0.1:25``, ``[::1]:25``, ``*:25`` or a path."""
        return self.path or f"{self.host}:{self.port}"

    @property
    def auth(self) -> str:
        """Whether clients may log in: ``no``, ``yes``, or ``required`` of all that may not relay anyway."""
        return self.options.get("auth") or {"submission": "required", "smtps": "yes"}.get(self.service, "no")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of one home, complete and within bounds. Domains and addresses in sets and keys are lower-case."""

    # Names of this host

    me: bytes
    bouncehost: bytes = _ME
    defaultdomain: bytes = _ME
    defaulthost: bytes = _ME
    doublebouncehost: bytes = _ME
    envnoathost: bytes = _ME
    helohost: bytes = _ME
    idhost: bytes = _ME
    localiphost: bytes = _ME
    plusdomain: bytes = _ME
    smtpgreeting: bytes = _ME

    # Receiving

    listen: tuple[Listener, ...] = ()
    badmailfrom: frozenset[bytes] = frozenset()
    badrcptto: frozenset[bytes] = frozenset()
    rcpthosts: frozenset[bytes] | None = None
    morercpthosts: frozenset[bytes] = frozenset()
    morercpthosts_cdb: str = ""
    databytes: int = 0
    recipientsmax: int = 1000
    errorsmax: int = 20
    commandbytes: int = 2048
    linebytes: int = 0
    hopsmax: int = 100
    barenewline: Literal["refuse", "normalise"] = "refuse"
    timeoutsmtpd: int = 1200
    timeoutqueue: int = 60
    sessionseconds: int = 0
    connectionsmax: int = 2000
    connectionsperclient: int = 200
    listenbacklog: int = 4096
    proxyclients: tuple[str, ...] = ()
    authmechanisms: tuple[bytes, ...] = (b"plain", b"login")
    authplaintext: Literal["never", "local", "always"] = "never"
    senderlogins: dict[bytes, bytes] = {}
    inlinebytes: int = 262_144
    injectconnections: int = 1000
    injectperuser: int = 200

    # Routing and local addresses

    locals: frozenset[bytes] = _ONLY_ME
    virtualdomains: dict[bytes, bytes] = {}
    smtproutes: dict[bytes, bytes] = {}
    percenthack: frozenset[bytes] = frozenset()
    qmqpservers: tuple[bytes, ...] = ()
    defaultdelivery: bytes = b"./Mailbox"
    concurrencylocal: int = 10
    localahead: int = 10
    programseconds: int = 3600
    quotabytes: int = 0
    quotamessages: int = 0
    quotaover: Literal["fail", "defer"] = "fail"

    # Sending

    concurrencyremote: int = 20
    concurrencydestination: int = 20
    concurrencydestinationstart: int = 5
    recipientspertransaction: int = 50
    outgoingip: str = ""
    ipv6: bool = True
    remoteport: int = 25
    resolvers: tuple[str, ...] = ()
    timeoutdns: int = 30
    timeoutconnect: int = 60
    timeoutremote: int = 1200
    timeoutgreeting: int = 300
    timeouthelo: int = 300
    timeoutmail: int = 300
    timeoutrcpt: int = 300
    timeoutdatainit: int = 120
    timeoutdatablock: int = 180
    timeoutdataend: int = 600
    reuseseconds: int = 5
    reusemessages: int = 100
    tcptoseconds: int = 3840

    # The queue

    queuelifetime: int = 604_800
    ledgerdays: int = 7
    backofflocal: int = 10
    backoffremote: int = 20
    activemessages: int = 2000
    activebytes: int = 33_554_432
    checkpointpages: int = 4000

    # Bounces

    bouncefrom: bytes = b"MAILER-DAEMON"
    doublebounceto: bytes = b"postmaster"
    delaynotice: int = 14_400
    bouncebytes: int = 51_200

    # TLS

    servercert: str = ""
    serverkey: str = ""
    clientcert: str = ""
    clientkey: str = ""
    tlsremote: Literal["may", "never", "always"] = "may"
    remoteauth: str = ""
    remoteauthtls: Literal["verify", "encrypt", "may"] = "verify"
    remoteauthiterations: int = 1_000_000

    # POP3

    pop3mailbox: bytes = b""
    pop3passwords: tuple[bytes, ...] = (b"file", b"system")
    pop3users: str = ""
    pop3mechanisms: tuple[bytes, ...] = (b"plain",)
    pop3plaintext: Literal["auto", "always", "never"] = "auto"
    timeoutpop3d: int = 1200
    pop3logindelay: int = 0
    pop3dprocesses: int = 0

    # Processes and logs

    smtpdprocesses: int = 0
    remoteprocesses: int = 0
    shutdownseconds: int = 60
    reloadseconds: int = 3600
    isolation: Literal["on", "off"] = "on"
    logtarget: Literal["file", "stderr", "syslog", "journald"] = "file"
    logformat: Literal["qmail", "json"] = "qmail"
    logfilebytes: int = 104_857_600
    logfilecount: int = 10

    def __post_init__(self) -> None:
        for name in FOLLOWING_ME:
            if getattr(self, name) is _ME:
                msgspec.structs.force_setattr(self, name, self.me)
        if self.locals is _ONLY_ME:
            msgspec.structs.force_setattr(self, "locals", frozenset({self.me.lower()}))


FOLLOWING_ME = frozenset(field.name for field in msgspec.structs.fields(Settings) if field.default is _ME)
"""Settings that are as ``me`` says when their file does not exist; besides them ``locals``, then ``me`` alone."""


def default(name: str) -> object:
    """What the setting is without its file; empty for ``me`` and what follows it."""
    return getattr(_BARE, name)


_BARE = Settings(me=b"", locals=frozenset())
