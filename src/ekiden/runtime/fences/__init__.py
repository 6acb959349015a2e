"""What a process gives up for good: system calls (seccomp), files and connections (Landlock)."""
