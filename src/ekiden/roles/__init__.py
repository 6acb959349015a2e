"""The processes: one file per role."""
