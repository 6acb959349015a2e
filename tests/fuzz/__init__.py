"""Parsers that meet the network or a user's file, given any octets: see docs/reliability.md, "Fuzzing"."""
