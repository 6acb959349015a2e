"""The ucspi-tcp commands that are shell scripts around tcpclient: who@, date@, finger@, http@, tcpcat, mconnect.

``BIN`` stands for the directory of the programs.
"""

from __future__ import annotations

import shlex

_SCRIPTS = {
    "tcpcat": """
exec BIN/tcpclient -RHl0 -- "${1-0}" "${2-17}" sh -c 'exec cat <&6'
""",
    "mconnect": """
exec BIN/tcpclient -RHl0 -- "${1-0}" "${2-25}" BIN/mconnect-io
""",
    "who@": """
BIN/tcpclient -RHl0 -- "${1-0}" 11 sh -c 'exec "$0" <&6' BIN/delcr | cat -v
""",
    "date@": """
BIN/tcpclient -RHl0 -- "${1-0}" 13 sh -c 'exec "$0" <&6' BIN/delcr | cat -v
""",
    "finger@": """
printf '%s\\n' "${2-}" |
    BIN/tcpclient -RHl0 -- "${1-0}" 79 sh -c '"$0" >&7; exec "$1" <&6' BIN/addcr BIN/delcr | cat -v
""",
    "http@": """
printf 'GET /%s HTTP/1.0\\nHost: %s:%s\\n\\n' "${2-}" "${1-0}" "${3-80}" |
    BIN/tcpclient -RHl0 -- "${1-0}" "${3-80}" sh -c '"$0" >&7; exec "$1" <&6' BIN/addcr BIN/delcr |
    awk 'body { print } /^$/ { body = 1 }'
""",
}

NAMES = frozenset(_SCRIPTS)


def scripts(directory: str) -> dict[str, str]:
    """Each script by its name, for programs in ``directory``."""
    quoted = shlex.quote(directory)
    return {name: "#!/bin/sh" + text.replace("BIN", quoted) for name, text in _SCRIPTS.items()}
