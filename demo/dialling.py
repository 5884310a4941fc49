"""How clients of debuggers reach a debug server."""

import socket

from squash.options import Address


def dial(address: str, timeout: float) -> socket.socket:
    """A connection whose operations take `timeout` seconds at most. Raises OSError.

    `address` as in `status.debug_server_address`, `unix:/path`, or that of a local end, `127.0.0.1:PORT`.
    """
    if not address.startswith("unix:"):
        return socket.create_connection(Address.parse(address), timeout)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(timeout)
        made.connect(address.removeprefix("unix:"))
    except OSError:
        made.close()
        raise
    return made
