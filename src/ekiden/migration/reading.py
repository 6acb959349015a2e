"""A whole sendmail configuration, read into a plan and a report."""

from __future__ import annotations

from pathlib import Path

from ekiden.migration import access, virtual
from ekiden.migration.accounts import Account, accounts, assign
from ekiden.migration.aliases import USE, USE_OR_PASS, Aliases
from ekiden.migration.cf import read_cf
from ekiden.migration.facts import Facts
from ekiden.migration.finding import Place, Report, Said
from ekiden.migration.hosts import RELAYCLIENT, class_members, local_hosts, relay_domains
from ekiden.migration.macros import read_macros
from ekiden.migration.options import listeners, masquerade, options
from ekiden.migration.plan import Plan
from ekiden.migration.source import STANDARD, Row, Source

LOOPBACK = ("127.", "::1")
SYSTEM_ALIASES = Path("/etc/aliases")
MAIN_QUEUE = Path("/var/spool/mqueue")


class Reading:
    """What was read from ``directory`` for ``home``, whose name is ``me``. OSError if a file cannot be read."""

    def __init__(self, directory: Path, home: Path, me: str, is_account: Account | None = None) -> None:
        self.report = Report()
        self._source = Source(directory, self.report)
        self._facts = self._read_facts()
        self.plan = Plan(me)
        hosts = local_hosts(self._source, self._facts)
        self._names(hosts, me)
        self._acceptance()
        self._routes()
        for read in (options, masquerade, listeners):
            read(self._facts, self.plan, self.report)
        self._generics()
        self._trusted()
        self.included = self._aliases(home, is_account or accounts(home))

    def _names(self, hosts: list[Said], me: str) -> None:
        """Local and virtual domains, which are told apart by virtusertable."""
        self._named = {host.value for host in hosts} | {me, "localhost"}
        virtuals = self._virtuals(hosts, me)
        self.plan.add("control/locals", *sorted(self._named - virtuals))
        self.plan.add("control/rcpthosts", *sorted(self._named - virtuals))
        for host in hosts:
            where = "control/virtualdomains" if host.value in virtuals else "control/locals"
            self.report.carried(host.place, f"{host.value} is a name of this host: {where}")

    def _acceptance(self) -> None:
        """Who may send what to whom."""
        relay_domains(self._source, self._facts, self.plan)
        features = self._facts.features
        recipients = "blocklist_recipients" in features or "blacklist_recipients" in features
        exact = "relay_hosts_only" in features
        context = access.Context(self.plan, self.report, sorted(self._named), exact, recipients)
        access.access(self._rows("access"), context)
        self.plan.add("control/tcp.smtp", *(f"{address}:allow{RELAYCLIENT}" for address in LOOPBACK), ":allow")

    def _routes(self) -> None:
        virtual.mailers(self._rows("mailertable"), self._named, self.plan, self.report)
        virtual.smart_host(self._facts, self.plan, self.report)

    def _read_facts(self) -> Facts:
        for name, read in (("sendmail.mc", None), ("sendmail.cf", read_cf)):
            path = self._source.directory / name
            if path.is_file():
                text = path.read_text(encoding="utf-8", errors="surrogateescape")
                return read(text, str(path)) if read else read_macros(text, str(path), self.report)
        return Facts()

    def _rows(self, name: str) -> list[Row]:
        said = self._facts.tables.get(name)
        path = self._source.find(said.value if said else name)
        if path is None:
            if said is not None and not name.startswith("access"):
                self.report.left(said.place, f"the table {name} is not there: {said.value}")
            return []
        return list(self._source.rows(path))

    def _virtuals(self, hosts: list[Said], me: str) -> set[str]:
        """Virtual domains. A host that is one cannot serve users' mail: localhost does then."""
        rows = self._rows("virtusertable")
        if me in {row.key.rpartition("@")[2] for row in rows}:
            self.plan.local = "localhost"
        served = class_members(self._source, self._facts.virtual, self._facts.virtual_files, "virtual-host-names")
        return virtual.virtusers(rows, [*hosts, Said(me, Place("control/me"))], served, self.plan, self.report)

    def _generics(self) -> None:
        for row in self._rows("genericstable"):
            user, _, host = row.value.partition("@")
            who = row.key.partition("@")[0]
            remedy = f"in {who}'s environment: QMAILUSER={user}" + (f" QMAILHOST={host}" if host else "")
            self.report.left(row.place, f"{row.key} is not rewritten to {row.value} when it sends", remedy)

    def _trusted(self) -> None:
        path = self._source.find("trusted-users")
        for said in self._source.words(path) if path else ():
            self.report.carried(said.place, f"{said.value} may name any sender, as everybody may")

    def _aliases(self, home: Path, is_account: Account) -> list[str]:
        """Aliases come last in .qmail-default but for where unknown users go. Returns the lists to compile."""
        aliases = Aliases(self.plan, self.report, home, is_account)
        for path in self._alias_files():
            aliases.read(path)
        has_aliases = "control/aliases" in self.plan.files
        unknown = self._facts.unknown_users is not None
        if has_aliases:
            self.plan.add("alias/.qmail-default", USE_OR_PASS if unknown else USE)
        assign(aliases.assigned, home, self.plan)
        virtual.unknown_users(self._facts, self.plan, self.report, has_aliases)
        return aliases.included

    def queue_directories(self) -> list[Path]:
        """Where this host's sendmail has its queue, as far as is known; none for a copy of another's /etc/mail."""
        if self._source.directory != STANDARD:
            return []
        said = self._facts.options.get("QueueDirectory")
        main = Path(said.value.rstrip("*")) if said else MAIN_QUEUE
        # Queue groups: /var/spool/mqueue/q*.
        main = main if main.is_dir() else main.parent
        return [path for path in (main, MAIN_QUEUE.with_name("mqueue-client")) if path.is_dir()]

    def _alias_files(self) -> list[Path]:
        said = self._facts.options.get("AliasFile")
        named = [self._source.find(part.strip()) for part in said.value.split(",")] if said else []
        found = [path for path in named if path is not None]
        if found:
            return found
        here = self._source.directory / "aliases"
        if here.is_file():
            return [here]
        return [SYSTEM_ALIASES] if self._source.directory == STANDARD and SYSTEM_ALIASES.is_file() else []
