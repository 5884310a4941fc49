"""A small service to be debugged: worker threads, and a main thread that does what its argument says.

For each line on stdin it prints one JSON object. Python 3.8 or newer.
"""

import json
import os
import socket
import sys
import threading
import time


def price(amount, rate):
    total = amount * rate
    return total  # the tests break here


def fork(amount):
    """What a forked child says of the price: its exit status, or -1 when it says nothing."""
    child = os.fork()
    if child == 0:
        os._exit(price(amount, 3))
    end = time.monotonic() + 10
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status >> 8
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -1


def work(rounds):
    total = 0
    for number in range(rounds):
        total = add(total, number)
    return total


def add(first, second):
    return first + second


def run_threads(count):
    """One after the other."""
    for _ in range(count):
        thread = threading.Thread(target=add, args=(1, 2))
        thread.start()
        thread.join()
    return {}


def kept():
    """How many objects there are of threads' and the debugger's types, by name, without its notes on code seen."""
    import gc

    gc.collect()
    found = {}
    for thing in gc.get_objects():
        kind = type(thing)
        ours = str(kind.__module__).startswith(("threading", "pydev", "_pydev", "debugpy", "squash"))
        if ours and not kind.__name__.endswith("CodeInfo") and not kind.__name__.endswith("CodeLineInfo"):
            found[kind.__name__] = found.get(kind.__name__, 0) + 1
    return found


def answers():
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "price":
            found = {"price": price(int(rest), 3)}
        elif word == "fork":
            found = {"child": fork(int(rest))}
        elif word == "threads":
            found = run_threads(int(rest))
        elif word == "kept":
            found = kept()
        elif word == "speed":
            begun = time.thread_time()
            work(200000)
            found = {"seconds": time.thread_time() - begun}
        else:
            found = {
                "threads": sorted(thread.name for thread in threading.enumerate()),
                "environment": sorted(os.environ),
                "path": sys.path,
                "names": sorted(globals()),
                "interval": sys.getswitchinterval(),
            }
        print(json.dumps(found), flush=True)


def busy():
    while True:
        work(1000)
        time.sleep(0.001)


def up():
    print(json.dumps({"up": True}), flush=True)


def main(room):
    threading.Thread(target=answers, name="answers", daemon=True).start()
    threading.Thread(target=busy, name="busy", daemon=True).start()
    ROOMS[room]()


def select():
    import select

    up()
    select.select([], [], [])


def sleep():
    up()
    time.sleep(1000)


def join():
    thread = threading.Thread(target=time.sleep, args=(1000,), name="joined", daemon=True)
    thread.start()
    up()
    thread.join()


def event():
    up()
    threading.Event().wait()


def calculate():
    up()
    while True:
        work(1000)


def accept():
    server = socket.create_server(("127.0.0.1", 0))
    up()
    server.accept()


def loop():
    import asyncio

    async def ticks():
        up()
        while True:
            await asyncio.sleep(0.001)

    asyncio.run(ticks())


ROOMS = {
    "select": select,
    "sleep": sleep,
    "join": join,
    "event": event,
    "busy": calculate,
    "accept": accept,
    "asyncio": loop,
}


if __name__ == "__main__":
    main(sys.argv[1])
