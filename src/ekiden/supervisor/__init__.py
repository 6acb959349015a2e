"""The process above the roles."""
