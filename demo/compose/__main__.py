"""`make compose-demo`: the demo in containers; nothing but images is left of it.

ENGINE=own starts a Docker engine for it (root); KEEP=1 leaves it all up until Ctrl-C.
"""

import os
import signal
import sys
from types import FrameType

from demo.compose.engine import command, environment
from demo.compose.shop import opened
from demo.compose.story import ComposeStory
from demo.engine import EngineError
from demo.world import StartError
from squash.errors import SquashError

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """0 when every step was as it should be, 1 when one was not, 130 after Ctrl-C."""
    for number in STOPS:
        signal.signal(number, _interrupt)
    try:
        compose = command()
        print("Building and starting the containers: some minutes the first time, seconds later.", flush=True)
        with environment() as told, opened(compose, told) as shop:
            try:
                return _tell(ComposeStory(shop))
            finally:
                _ignore_stops()
    except (StartError, EngineError, SquashError) as error:
        sys.stderr.write(f"demo: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ndemo: interrupted; everything it started is gone\n")
        return 130


def _tell(story: ComposeStory) -> int:
    if not story.tell():
        return 1
    if os.environ.get("KEEP", "0") not in ("", "0"):
        story.stay()
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ignore_stops()
    raise KeyboardInterrupt


def _ignore_stops() -> None:
    """What is left to do is to end everything, and Ctrl-C must not come between."""
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
