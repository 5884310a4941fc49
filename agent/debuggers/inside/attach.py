"""Runs inside the process that is debugged: starts debugpy's in-process adapter and takes it out again.

The injected code executes this file, with loading.py and leaving.py before it, with three globals: DIRECTORY (where
the agent listens on `agent.sock`), DEBUGPY (the directory of the debugpy package) and TICKET (which begins the first
line of each connection). Python 3.8 or newer; no name of it stays behind in the process.

The process opens nothing to the outside: it dials the agent. The first connection is the control line: the agent says
`client` (a debugger's client is there: dial once more for it) or `client terminate` (and it may end the process),
`disconnect` (it has left) or `detach`, and gets one JSON object for each. When the control line ends, for
whatever reason, the debugger takes itself out.
"""

import contextlib
import json
import os
import queue
import socket
import sys
import threading

DIRECTORY: str
DEBUGPY: str
TICKET: str


class Quiet(socket.socket):
    """A socket whose end is an error and never SIGPIPE, which would end a process that has not switched it off."""

    def send(self, data, flags=0):
        return super().send(data, flags | socket.MSG_NOSIGNAL)

    def sendall(self, data, flags=0):
        return super().sendall(data, flags | socket.MSG_NOSIGNAL)


def dial(kind):
    """A connection to the agent; `kind` says what for."""
    connection = Quiet(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(DIRECTORY + "/agent.sock")
        connection.sendall((TICKET + " " + kind + "\n").encode())
    except OSError:
        connection.close()
        raise
    return connection


class Door:
    """What pydevd takes for its listening socket: connections come in when the agent says so."""

    def __init__(self):
        self._waiting = queue.Queue()
        self._client = None

    def getsockname(self):
        return ("", 0)

    def listen(self, backlog):
        pass

    def accept(self):
        connection = self._waiting.get()
        if connection is None:
            raise OSError("the door is closed")
        return connection, ("", 0)

    def open(self):
        self._client = dial("client")
        self._waiting.put(self._client)

    def hang_up(self):
        """Closes what the last client came by, which pydevd does not."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self):
        self._waiting.put(None)


def start(door):
    """Imports debugpy and starts it, waiting for clients at `door`. Leaves sys.path and os.environ as they were."""
    path, environment = list(sys.path), dict(os.environ)
    # For debugpy alone: it would warn on the process's stderr about modules frozen into the interpreter.
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    # Each file read gives the interpreter away, and a busy thread gives it back after this many seconds only.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0001)
    no_jython = NoJython()
    sys.meta_path.insert(0, no_jython)
    try:
        api, pydevd = load()
        sys.modules["debugpy"].squash = threading.current_thread()
    finally:
        sys.meta_path.remove(no_jython)
        sys.setswitchinterval(interval)
        sys.path[:] = path
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)

    from _pydevd_bundle.pydevd_api import PyDevdAPI
    from _pydevd_bundle.pydevd_constants import DebugInfoHolder

    # It would complain on the process's stderr, which is the service's.
    DebugInfoHolder.DEBUG_TRACE_LEVEL = -1
    pydevd.SetupHolder.setup = None
    pydevd.create_server_socket = lambda host, port: door
    if not hasattr(PyDevdAPI, "squash_terminate"):
        PyDevdAPI.squash_terminate = PyDevdAPI.request_terminate_process
    allow_terminate(False)
    let_go_of_children()
    keep_no_threads()
    trim()
    api.listen.called = False
    api.listen(("127.0.0.1", 0), in_process_debug_adapter=True)


def allow_terminate(allowed):
    """Whether an editor's "Stop" may end the process; otherwise it lets go of it."""
    from _pydevd_bundle.pydevd_api import PyDevdAPI

    def let_go(self, py_db):
        self.request_disconnect(py_db, resume_threads=True)

    PyDevdAPI.request_terminate_process = PyDevdAPI.squash_terminate if allowed else let_go


def let_go_of_children():
    """A process forked off later has no thread that could let it go on from a breakpoint: it runs undebugged."""
    if not hasattr(sys.modules["debugpy"], "squash_forks"):
        sys.modules["debugpy"].squash_forks = True
        os.register_at_fork(after_in_child=forget)


def forget():
    import pydevd
    from _pydevd_bundle.pydevd_constants import set_global_debugger

    if pydevd.get_global_debugger() is None:
        return
    set_global_debugger(None)
    if pydevd.PYDEVD_USE_SYS_MONITORING:
        # Without any lock: other threads may have held them when the process was forked.
        monitoring = sys.monitoring
        tool = monitoring.DEBUGGER_ID
        monitoring.set_events(tool, 0)
        for name, event in vars(monitoring.events).items():
            if not name.startswith("_") and event:
                with contextlib.suppress(ValueError):  # not every event takes one
                    monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
    else:
        import pydevd_tracing

        settrace = pydevd_tracing.TracingFunctionHolder._original_tracing or sys.settrace
        settrace(None)
        threading.settrace(None)


def disconnect(door):
    """Removes all breakpoints, lets every thread run, and lets go of the client."""
    import pydevd
    from _pydevd_bundle.pydevd_api import PyDevdAPI

    py_db = pydevd.get_global_debugger()
    if py_db is not None:
        PyDevdAPI().request_disconnect(py_db, resume_threads=True)
    door.hang_up()


def stop(door):
    """Takes the debugger out: no thread of it, no tracing, full speed; it can be started again."""
    import pydevd
    import pydevd_tracing
    from _pydevd_bundle import pydevd_constants

    disconnect(door)
    py_db = pydevd.get_global_debugger()
    pydevd.stoptrace()
    if py_db is not None:
        # stoptrace swallows what goes wrong, as when a thread ends just then; one thread it does not count at all.
        threads = [*py_db.created_pydb_daemon_threads, py_db._waiting_for_connection_thread]
        for thread in threads:
            thread.do_kill_pydev_thread()
        for thread in threads:
            thread.join(1)
        pydevd_constants.set_global_debugger(None)
    if not pydevd.PYDEVD_USE_SYS_MONITORING:
        # pydevd leaves its trace function on the threads, which costs each call several times its time.
        pydevd_tracing.set_trace_to_threads(untracer(sys.settrace), create_dummy_thread=False)
        untrace_frames(pydevd_constants.NO_FTRACE)
    pydevd.SetupHolder.setup = None
    leave_nothing()


def unsuited():
    """Why this process cannot be debugged so, or an empty string."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return "its threads are gevent's: debugpy must be loaded before gevent patches them (GEVENT_SUPPORT=True)"
    before = getattr(sys.modules.get("debugpy"), "squash", None)
    if before is not None:
        before.join(5)  # may still be taking itself out
    if "pydevd" in sys.modules and sys.modules["pydevd"].get_global_debugger() is not None:
        return "a debugger of the pydevd family is active in it already"
    return ""


def serve():
    """The life of one attachment, in a thread of its own."""
    try:
        control = dial("control")
    except OSError:
        return  # the agent has given up
    with control, control.makefile("r") as line:

        def say(**what):
            control.sendall((json.dumps(what) + "\n").encode())

        try:
            follow(line, say)
        except OSError:
            return


def follow(line, say):
    problem = unsuited()
    if problem:
        say(reason="debugger_unsuited", message=problem)
        return
    door = Door()
    try:
        start(door)
    except BaseException as error:
        import traceback

        say(reason="attach_failed", message=repr(error), traceback=traceback.format_exc())
        return
    try:
        say(python="%d.%d.%d" % sys.version_info[:3], loaded=loaded())
        for order in line:
            word, _, rest = order.strip().partition(" ")
            if word == "client":
                allow_terminate(rest == "terminate")
                door.open()
            elif word == "disconnect":
                disconnect(door)
            elif word == "detach":
                break
            say(done=word)
    finally:
        stop(door)
    say(done="detach")


def main():
    thread = threading.Thread(target=serve, name="squash", daemon=True)
    # So that pydevd neither traces nor shows it.
    thread.pydev_do_not_trace = True
    thread.is_pydev_daemon_thread = True
    thread.start()


main()
