"""A home as it is installed: qmail's users, one table of its files, laying them out and checking them."""
