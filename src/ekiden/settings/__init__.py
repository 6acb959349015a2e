"""The settings: one schema, and the readers that fill it."""
