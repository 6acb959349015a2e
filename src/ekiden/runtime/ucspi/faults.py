"""What a system error is called by the ucspi-tcp programs; log analysers know these words and not strerror's."""

from __future__ import annotations

import errno

_WORDS = {
    errno.EINTR: "interrupted system call",
    errno.ENOMEM: "out of memory",
    errno.ENOENT: "file does not exist",
    errno.ETXTBSY: "text busy",
    errno.EIO: "input/output error",
    errno.EEXIST: "file already exists",
    errno.ETIMEDOUT: "timed out",
    errno.EINPROGRESS: "operation in progress",
    errno.EAGAIN: "temporary failure",
    errno.EPIPE: "broken pipe",
    errno.EPERM: "permission denied",
    errno.EACCES: "access denied",
    errno.ENXIO: "device not configured",
    errno.EPROTO: "protocol error",
    errno.EISDIR: "is a directory",
    errno.ESRCH: "no such process",
    errno.E2BIG: "argument list too long",
    errno.ENOEXEC: "exec format error",
    errno.EBADF: "file descriptor not open",
    errno.EBUSY: "device busy",
    errno.ENOTDIR: "not a directory",
    errno.EINVAL: "invalid argument",
    errno.ENFILE: "system cannot open more files",
    errno.EMFILE: "process cannot open more files",
    errno.EFBIG: "file too big",
    errno.ENOSPC: "out of disk space",
    errno.ENOTSOCK: "not a socket",
    errno.EAFNOSUPPORT: "address family not supported",
    errno.EADDRINUSE: "address already used",
    errno.EADDRNOTAVAIL: "address not available",
    errno.ENETDOWN: "network down",
    errno.ENETUNREACH: "network unreachable",
    errno.ENETRESET: "network reset",
    errno.ECONNABORTED: "connection aborted",
    errno.ECONNRESET: "connection reset",
    errno.ENOBUFS: "out of buffer space",
    errno.ENOTCONN: "not connected",
    errno.ECONNREFUSED: "connection refused",
    errno.ELOOP: "symbolic link loop",
    errno.ENAMETOOLONG: "file name too long",
    errno.EHOSTDOWN: "host down",
    errno.EHOSTUNREACH: "host unreachable",
}


def explain(error: OSError) -> str:
    """The error in a few words."""
    if isinstance(error, TimeoutError):
        return "timed out"  # what a socket raises has no errno
    return _WORDS.get(error.errno or 0) or error.strerror or str(error)
