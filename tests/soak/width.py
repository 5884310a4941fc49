"""How wide the tests of this directory go: a few rounds in `make test`, all of them in `make soak`."""

import os

WIDE = os.environ.get("SQUASH_SOAK") == "1"


def rounds(few: int, many: int) -> int:
    return many if WIDE else few
