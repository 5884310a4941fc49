"""Environment variables that look like settings and are none: they would be ignored without a word.

Only a warning is made of them, never an error: whoever starts a program may have variables of that kind for others.
"""

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from squash.options import PROGRAMS, rows
from squash.settings import AgentSettings, CoordinatorSettings, SidecarSettings, SquashctlSettings

_SETTINGS = (CoordinatorSettings, AgentSettings, SidecarSettings, SquashctlSettings)
_OURS = re.compile(r"SQUASH(CTL)?_")
_OF_A_PROGRAM = tuple(f"SQUASH_{program}_".upper() for program in PROGRAMS)
_OF_A_SERVICE = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)\Z")
"""How names end that Kubernetes makes for a service, such as one called `squash-coordinator`."""
_CONTAINER = ("SQUASH_POD", "SQUASH_NAMESPACE", "SQUASH_CONTAINER", "SQUASH_IMAGE")
_ALIKE = 0.74
"""How much of a name (without `SQUASH_`), from 0 to 1, must be that of a known one to be named as meant."""


def doubts(environ: Iterable[str]) -> Iterator[str]:
    """A line for each of the variables, given by their names, that seems to be meant for a setting and is none."""
    of_settings = {row.env for program, cls in zip(PROGRAMS, _SETTINGS, strict=True) for row in rows(cls, program)}
    known = {"SQUASH_CONFIG", *_CONTAINER, *filter(_OURS.match, of_settings)}
    for name in sorted(environ):
        if not _OURS.match(name) or name in known or _OF_A_SERVICE.search(name):
            continue
        near = _near(name, known)
        if near or name.startswith(_OF_A_PROGRAM):
            hint = f"; did you mean {near}?" if near else ""
            yield f"the environment variable {name} is not known and has no effect{hint}"


def _near(name: str, known: Iterable[str]) -> str:
    """The known name that is most like it; empty when it need not be meant for one."""
    by_ending = {_OURS.sub("", each, count=1): each for each in sorted(known)}
    return "".join(by_ending[each] for each in get_close_matches(_OURS.sub("", name, count=1), by_ending, 1, _ALIKE))
