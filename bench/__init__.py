"""Benchmarks: ekiden beside Postfix on the same machine, in the same run, in turn."""
