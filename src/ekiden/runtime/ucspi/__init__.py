"""What the ucspi-tcp programs share: places, names, environment, log lines and processes."""
