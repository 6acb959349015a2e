"""SMTP (RFC 5321) as two engines, server and client."""
