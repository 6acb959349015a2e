"""POP3 (RFC 1939) as a server speaks it: octets in, events and octets out."""
