"""Moving in from another mail system: its tables become control files, its queue our queue, its spools Maildirs."""
