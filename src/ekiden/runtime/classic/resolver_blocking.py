"""The resolver of programs that do one thing and end: asks one question after the other and remembers nothing."""

from __future__ import annotations

from ekiden.base.outcome import Outcome
from ekiden.routing.destination import Destination
from ekiden.routing.mx import Answer, Answered, Host, Question, Surroundings, find_hosts
from ekiden.settings.schema import Settings


def hosts_for(destination: Destination, settings: Settings) -> list[Host] | Outcome:
    """The hosts for a destination, in the order in which to try them, or the outcome without them."""
    search = find_hosts(destination, _surroundings(destination, settings))
    try:
        questions = next(search)
        while True:
            questions = search.send([ask(question, settings) for question in questions])
    except StopIteration as found:
        hosts: list[Host] | Outcome = found.value
        return hosts


def _surroundings(destination: Destination, settings: Settings) -> Surroundings:
    if destination.is_literal:
        # dnspython takes a tenth of a second to import; a literal needs none of it.
        return Surroundings(lambda address: False)
    from ekiden.runtime import resolver_answer

    return resolver_answer.surroundings(settings)


def ask(question: Question, settings: Settings) -> Answer:
    """One question's answer, with CNAMEs followed; never raises."""
    import dns.exception
    import dns.resolver

    from ekiden.runtime import resolver_answer

    try:
        resolver = dns.resolver.Resolver(configure=False)
        resolver_answer.configure(resolver, settings)
        for _ in range(resolver_answer.CHAIN):
            name = resolver_answer.wire_name(question.name)
            if name is None:
                return Answer(Answered.NO_NAME)
            found = resolver.resolve(name, question.kind, raise_on_no_answer=False, search=False)
            known = resolver_answer.translate(question, found)
            if known.follow is None:
                return known.answer
            question = Question(known.follow, question.kind)
    except (dns.exception.DNSException, OSError) as error:
        return resolver_answer.failure(error).answer
    except (ValueError, KeyError, EOFError):
        pass  # an answer made to confuse the parser
    return resolver_answer.FAILED.answer  # a chain without end says nothing for certain either
