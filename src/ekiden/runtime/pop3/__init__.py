"""The POP3 server: the door, which hears strangers, the keeper of passwords, and the sessions."""
