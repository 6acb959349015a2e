"""Where a recipient's mail goes, and why."""
