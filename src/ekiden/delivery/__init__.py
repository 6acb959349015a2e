"""The last step: a remote transaction, a mailbox, a program."""
