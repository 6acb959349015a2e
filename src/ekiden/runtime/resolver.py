"""The daemon's resolver: asks a whole batch at once, each question once at a time, and remembers for the TTL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import dns.asyncbackend
import dns.asyncresolver
import dns.exception

from ekiden.base.outcome import Outcome
from ekiden.routing.destination import parse_destination
from ekiden.routing.mx import Answer, Answered, Host, Question, find_hosts
from ekiden.runtime import resolver_answer
from ekiden.runtime.resolver_answer import FAILED, Found
from ekiden.settings.schema import Settings

CAPACITY = 10_000
"""Answers remembered; the oldest make room."""


class Resolver:
    """Finds hosts by routing.mx's rules. Literals are answered without DNS, whatever state it is in."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._here = resolver_answer.surroundings(settings)
        self._known: dict[Question, tuple[float, Answer]] = {}
        self._asking: dict[Question, asyncio.Task[Found]] = {}
        self._resolver: dns.asyncresolver.Resolver | None = None

    def prepare(self) -> bool:
        """Read which servers to ask, while files can be read; whether there are any."""
        try:
            self._server()
        except (dns.exception.DNSException, OSError):
            return False
        return True

    async def hosts(self, key: bytes) -> list[Host] | Outcome:
        """The hosts for a destination key, in the order in which to try them, or the outcome without them."""
        search = find_hosts(parse_destination(key, self._settings.remoteport), self._here)
        try:
            questions = next(search)
            while True:
                questions = search.send(await self._answers(questions))
        except StopIteration as found:
            hosts: list[Host] | Outcome = found.value
            return hosts

    async def _answers(self, questions: Sequence[Question]) -> list[Answer]:
        return list(await asyncio.gather(*(self.ask(question) for question in questions)))

    async def ask(self, question: Question) -> Answer:
        """One question's answer, with CNAMEs followed; never raises."""
        for _ in range(resolver_answer.CHAIN):
            answer, follow = await self._ask_once(question)
            if follow is None:
                return answer
            question = Question(follow, question.kind)
        return FAILED.answer  # a chain without end says nothing for certain

    async def _ask_once(self, question: Question) -> tuple[Answer, bytes | None]:
        now = asyncio.get_running_loop().time()
        known = self._known.get(question)
        if known is not None and now < known[0]:
            return known[1], None
        asking = self._asking.get(question)
        if asking is None:
            asking = asyncio.ensure_future(self._query(question))
            self._asking[question] = asking
            asking.add_done_callback(lambda _: self._asking.pop(question, None))
        # Shielded: several may wait for it, and one that gives up must not take the answer from the others.
        found = await asyncio.shield(asking)
        if found.seconds > 0 and found.follow is None:
            self._remember(question, found.answer, now + found.seconds)
        return found.answer, found.follow

    def _remember(self, question: Question, answer: Answer, until: float) -> None:
        self._known.pop(question, None)
        if len(self._known) >= CAPACITY:
            del self._known[next(iter(self._known))]
        self._known[question] = (until, answer)

    async def _query(self, question: Question) -> Found:
        name = resolver_answer.wire_name(question.name)
        if name is None:
            return Found(Answer(Answered.NO_NAME), resolver_answer.NEGATIVE_SECONDS)
        try:
            found = await self._server().resolve(name, question.kind, raise_on_no_answer=False, search=False)
        except (dns.exception.DNSException, OSError) as error:
            return resolver_answer.failure(error)
        except (ValueError, KeyError, EOFError):
            return FAILED  # an answer made to confuse the parser
        return resolver_answer.translate(question, found)

    def _server(self) -> dns.asyncresolver.Resolver:
        """Made at the first question, so that a machine without DNS may run with literals alone."""
        if self._resolver is None:
            resolver = dns.asyncresolver.Resolver(configure=False)
            resolver_answer.configure(resolver, self._settings)
            self._resolver = resolver
        return self._resolver
