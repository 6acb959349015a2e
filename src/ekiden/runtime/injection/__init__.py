"""Ways into the queue for programs: through ``run/inject``, or, while ekiden does not run, directly."""
