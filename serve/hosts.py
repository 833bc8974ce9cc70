"""Names under which a server is reached: how they are written, and which of them mean this machine alone.

Pure text, read by the configuration, the guard, the door and `burnish lint`.
"""

from __future__ import annotations

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
USER_TOKEN = "BURNISH_USER_TOKEN"
"""Environment variable with the users' token; or the file `user.token` in the server's directory."""


def host_name(text: str) -> str:
    """A host in lower case, without its port; "" where it is none, or its port is none."""
    text = text.lower()
    end = text.find("]") + 1 if text.startswith("[") else text.find(":")
    name, port = (text, "") if end < 0 else (text[:end], text[end:])
    return name if not port or port[1:].isdigit() else ""


def beyond_loopback(hosts: object) -> list[str]:
    """Those of a list of hosts that others than this machine can use; nothing where it is no list."""
    names = hosts if isinstance(hosts, list | tuple) else ()
    return [str(name) for name in names if host_name(str(name)) not in LOOPBACK]
