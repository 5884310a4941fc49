"""How debugpy is brought into the process that is debugged: of all that it would read and keep, what is needed.

It is put before attach.py, and runs as one text with it, where DEBUGPY is the directory of the debugpy package.
"""

import builtins
import contextlib
import importlib
import importlib.util
import sys
import threading
import types

DEBUGPY: str


PUT_OFF = {
    "_pydev_bundle._pydev_saved_modules": {
        "xmlrpc.client": ("ServerProxy", "Marshaller", "Server"),
        "xmlrpc.server": ("SimpleXMLRPCServer",),
        "http.server": ("BaseHTTPRequestHandler",),
    },
    "debugpy.common.log": {"importlib.metadata": ()},
}
"""Imports of debugpy's modules that bring megabytes and serve what is not used here, and what is asked of them."""


class Later(types.ModuleType):
    """In place of a module, which is imported when something of it is asked for after all."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


def putting_off(later):
    """An `__import__` for one module, for which these are imported later; the rest of the process keeps its own."""

    def put_off(name, scope=None, local=None, fromlist=(), level=0):
        wanted = [name] if name in later else ["%s.%s" % (name, part) for part in fromlist or ()]
        for full in wanted:
            if full in later and full not in sys.modules:
                module = Later(full)
                vars(module).update(dict.fromkeys(later[full]))
                top, _, last = full.partition(".")
                if full == name and fromlist:
                    return module
                package = types.ModuleType(top)
                setattr(package, last, module)
                return package
        return __import__(name, scope, local, fromlist, level)

    return put_off


class NoJython:
    """Tells this thread that there is no module `java`: pydevd tries, and would execute one of the service's."""

    def __init__(self):
        self._thread = threading.get_ident()

    def find_spec(self, name, path=None, target=None):
        if name == "java" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(name)


def slim(name):
    """Imports a module of debugpy's without what it does not need."""
    spec = importlib.util.find_spec(name)
    if name in sys.modules or spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    vars(module)["__builtins__"] = dict(vars(builtins), __import__=putting_off(PUT_OFF[name]))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)


def load():
    """debugpy from its place in the agent's environment: nothing else of that environment can be imported."""
    if "debugpy" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "debugpy", DEBUGPY + "/__init__.py", submodule_search_locations=[DEBUGPY]
        )
        sys.modules["debugpy"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["debugpy"])
        sys.path.insert(0, DEBUGPY + "/_vendored/pydevd")
        for name in PUT_OFF:
            slim(name)
    import debugpy.server.api
    import pydevd

    # Reads the metadata of all installed packages, for a log that is not written.
    debugpy.common.log.describe_environment = lambda header: None
    return debugpy.server.api, pydevd


def loaded():
    """Files of debugpy that have been read, and need not be read again by this process."""
    files = set()
    for module in list(sys.modules.values()):
        for place in (getattr(module, "__file__", None), getattr(module, "__cached__", None)):
            if isinstance(place, str) and place.startswith(DEBUGPY + "/") and not place.endswith(".so"):
                files.add(place[len(DEBUGPY) + 1 :])
    return sorted(files)


def trim():
    """Gives back what the C library keeps of the memory that imports have used (malloc_trim(3), glibc)."""
    import ctypes

    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
