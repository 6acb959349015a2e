"""Protocol engines over bytes: no socket, no clock, no file."""
