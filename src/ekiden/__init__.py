"""ekiden, the relay of post stations: a mail transfer agent with qmail's model on a modern engine."""

__version__ = "0.1.0"
