"""How much longer everything takes here than elsewhere: tests on an emulated machine have to wait for longer."""

import os

SLOWNESS = int(os.environ.get("SQUASH_SLOWNESS", "1"))
