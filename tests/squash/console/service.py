"""A service to be debugged in a terminal."""

import threading
import time


class Order:
    def __init__(self, number: int) -> None:
        self.total = number
        self.lines = ["a", "b"]
        self.long = "x" * 5_000
        self.hostile = "\033[2J\x07"


def tick(number: int, *, extra: int = 1) -> int:
    order = Order(number)
    result = number + extra  # the tests break here
    order.total += result
    return result


def outer(number: int) -> int:
    value = tick(number)
    return value  # noqa: RET504 - a line to stop at


def rest() -> None:
    threading.Event().wait()


def main() -> None:
    threading.Thread(target=rest, name="resting \033[1m", daemon=True).start()
    print("service ready on nothing", flush=True)  # noqa: T201 - it is awaited
    number = 0
    while True:
        number = outer(number) % 1_000
        time.sleep(0.02)


if __name__ == "__main__":
    main()
