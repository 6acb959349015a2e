"""Mailboxes as their readers see them: numbered messages with sizes and unique ids, read and removed."""
