"""How a debugger leaves the process that it was in: without what pydevd would keep of it.

It is put before attach.py, and runs as one text with it.
"""

import atexit
import contextlib
import sys
import threading
import weakref


def keep_no_threads():
    """pydevd keeps each thread that it has seen, for good, lest another gets the same number.

    A service that makes a thread for each request would grow by 4 KB with each. The numbers of those that a client
    knows are their own all the same: pydevd keeps such a thread elsewhere until it has told the client of its end.
    """
    from _pydevd_bundle import pydevd_constants

    pydevd_constants._thread_id_to_thread_found = weakref.WeakValueDictionary()


def untracer(settrace):
    """A trace function that takes itself off the thread at its next call. `settrace` is the real one."""

    def untrace(frame, event, arg):
        settrace(None)

    return untrace


def untrace_frames(no_trace):
    """Those that still run keep pydevd's trace function, although nobody calls it, and by it the whole debugger."""
    for innermost in sys._current_frames().values():
        frame = innermost
        while frame is not None:
            if frame.f_trace is not None:
                frame.f_trace = no_trace
            frame = frame.f_back


def seen(threads):
    """Of pydevd's table. Other threads may enter themselves meanwhile, in the middle of a walk through it."""
    return [thread for thread in [reference() for reference in threads.valuerefs()] if thread is not None]


def leave_nothing():
    """Drops what pydevd keeps of a debugger that is out. A debugpy that is the service's own may keep less."""
    import pydevd
    import pydevd_tracing
    from _pydevd_bundle import pydevd_additional_thread_info as infos
    from _pydevd_bundle import pydevd_constants
    from _pydevd_bundle._debug_adapter.pydevd_base_schema import BaseSchema

    atexit.unregister(pydevd.stoptrace)
    pydevd_tracing._last_tracing_func_thread_local = threading.local()
    BaseSchema.initialize_ids_translation()
    with contextlib.suppress(AttributeError):
        locks = pydevd_constants._fork_safe_locks
        locks[:] = [lock for lock in locks if lock() is not None]
        # Threads that are in the middle of pydevd's code may still ask for what it knows of them: that stays.
        for thread in [*threading._active.values(), *seen(pydevd_constants._thread_id_to_thread_found)]:
            info = getattr(thread, "additional_info", None)
            if info is not None:
                info.top_level_thread_tracer_unhandled = info.thread_tracer = None
                info.top_level_thread_tracer_no_back_frames = []
        infos.remove_additional_info(infos.set_additional_thread_info(threading.current_thread()))
        infos.PyDBAdditionalThreadInfo().update_stepping_info()  # forgets threads that have ended
