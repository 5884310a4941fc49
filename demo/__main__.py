"""`make demo`: tells the story and leaves nothing behind.

KEEP=1 leaves it all up until Ctrl-C; PORT=N pins the port of the shop.
"""

import os
import signal
import sys
from types import FrameType

from demo.shop import Shop
from demo.story import Story
from demo.world import StartError
from squash.errors import SquashError

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """0 when every step was as it should be, 1 when one was not, 130 after Ctrl-C."""
    for number in STOPS:
        signal.signal(number, _interrupt)
    try:
        with Shop(port=os.environ.get("PORT", "0")) as shop:
            story = Story(shop)
            if not story.tell():
                return 1
            if os.environ.get("KEEP", "0") not in ("", "0"):
                story.stay()
            return 0
    except (StartError, SquashError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: interrupted; everything it started is gone\n")
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Once is enough: what is left to do is to end everything, and a second Ctrl-C must not come between.
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
