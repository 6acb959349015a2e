"""The classic commands: one file per program."""
