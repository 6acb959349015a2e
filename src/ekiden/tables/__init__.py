"""Look-ups: one interface, key to value, not found, or try later."""
