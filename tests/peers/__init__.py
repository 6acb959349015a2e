"""Real peers for tests and benchmarks: ekiden itself, Postfix, Dovecot, dnsmasq and SMTP sinks, each private.

Every peer lives in a directory of its own below a temporary one, listens on free high ports of loopback addresses,
and is ended by its own process id.
"""
