"""One typed schema, and the readers that fill it."""
