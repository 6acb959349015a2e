"""Value types that everything else speaks in; imports nothing of ours."""
