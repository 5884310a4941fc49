"""Who types: what others see as the owner of an attachment and the client of a session."""

import os
import pwd
import socket


def person() -> str:
    """`user@host`, as the system names both; the uid where the user has no name."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return f"{user}@{socket.gethostname()}"
