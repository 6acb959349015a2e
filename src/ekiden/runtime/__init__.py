"""Event loops, frames between processes, logging, TLS contexts."""
