"""What a client of gdbserver may do: the one place where that is decided, for the guard and for those who only watch.

Source: the gdb manual, appendix "GDB Remote Serial Protocol". Pure; imports the standard library only.
"""

import re
from enum import Enum
from typing import NamedTuple

from agent.rsp import OK, error
from agent.terms import Terms

SIGKILL = b"09"
_MONITOR_EXIT = b"qRcmd,65786974"
_EPERM = b"F-1,1"
_REFUSED = {
    b"vRun": b"E01",
    b"vAttach": b"E01",
    b"QNonStop:1": b"",
    b"vFile:pwrite:": _EPERM,
    b"vFile:unlink:": _EPERM,
}
READ_ONLY = "this session may look, but change nothing"
_SIGNALS = re.compile(rb"C([0-9a-f]{2})", re.IGNORECASE)
_LOOKS = re.compile(
    rb"""
    [?!Dk] | vKill;.* | R[0-9a-f]*            # the last ones only end the session
    | D;[0-9a-f]+ | [gpmx][^;]* | g | [HT].*
    | [cs] | vCont\?.* | vCont;.* | C[0-9a-f]{2} | S[0-9a-f]{2}
    | [zZ][0-4],.* | vStopped | vCtrlC | vMustReplyEmpty
    | q(?!Rcmd,|TSave|Xfer:[^:]*:write:).*
    | vFile:(open:[^,]*,0,[0-9a-f]+|pread:.*|close:.*|fstat:.*|readlink:.*|setfs:.*|stat:.*)
    | Q(StartNoAckMode|NonStop:0|PassSignals:.*|ProgramSignals:.*|ThreadEvents:.*|CatchSyscalls:.*)
    """,
    re.DOTALL | re.VERBOSE,
)
_GENTLE = re.compile(rb"vCont(;[csrtCS][0-9a-f,]*(:[p0-9a-f.\-]+)?)+|[^v].*|v(?!Cont;).*", re.DOTALL)
"""Resumptions that only resume."""


class Kind(Enum):
    """What a packet is about."""

    LOOK = "look"
    CHANGE = "change"
    RESUME = "resume"
    LEAVE = "leave"
    KILL = "kill"


class Action(Enum):
    FORWARD = "forward"
    ANSWER = "answer"
    """Not passed on: answered in gdbserver's place."""
    END = "end"
    """The client takes its leave: everything is undone before the answer."""
    KILL = "kill"
    """As END, and then the process is ended."""


class Verdict(NamedTuple):
    action: Action
    answer: bytes | None = None
    """None: this packet has no answer."""


FORWARD = Verdict(Action.FORWARD)


def kind(text: bytes) -> tuple[Kind, str]:
    """Of a client's packet, and a word for what it does: for the record, so nothing of its contents."""
    first = text[:1] or b"?"  # what is empty means nothing, and every text contains it
    if first == b"k" or text.startswith(b"vKill;"):
        return Kind.KILL, "kill"
    if first in b"DR" or text == _MONITOR_EXIT:
        return Kind.LEAVE, "detach"
    if continues(text):
        return Kind.RESUME, "continue"
    if first in b"sS" or text.startswith(b"vCont;"):
        return Kind.RESUME, "step"
    for beginning, what in _CHANGES:
        if text.startswith(beginning):
            return Kind.CHANGE, what
    return Kind.LOOK, ""


_CHANGES = (
    (b"M", "memory"),
    (b"X", "memory"),
    (b"G", "registers"),
    (b"P", "registers"),
    (b"qRcmd,", "monitor command"),
    (b"vRun", "run"),
    (b"vAttach", "attach"),
    (b"vFile:pwrite:", "file"),
    (b"vFile:unlink:", "file"),
    (b"vFlash", "memory"),
)


def continues(text: bytes) -> bool:
    """Whether the packet lets the process run until something happens."""
    if text.startswith(b"vCont;"):
        return any(action[:1] in (b"c", b"C") for action in text.split(b";")[1:])
    return text[:1] in (b"c", b"C")


def looks(text: bytes, signal: bytes | None) -> bool:
    """Whether a session that may change nothing may say this. It may hand on the signal that stopped the process.

    `signal` is that one's number, as two hexadecimal digits; None lets any pass.
    """
    if not _LOOKS.fullmatch(text) or not _GENTLE.fullmatch(text):
        return False
    given = _SIGNALS.findall(text) if text[:1] == b"C" or text.startswith(b"vCont;") else []
    given += [text[1:3]] if text[:1] == b"S" else []
    given += re.findall(rb";S([0-9a-f]{2})", text) if text.startswith(b"vCont;") else []
    return signal is None or all(number.lower() in (b"00", signal.lower()) for number in given)


def judge(text: bytes, pid: int, terms: Terms, *, signal: bytes = b"", named_errors: bool = False) -> Verdict:
    """What becomes of a client's packet. Without leave none may kill the process, start others or write files here.

    `signal`: with which the process stopped last.
    """
    parting = _parting(text, pid, terms)
    answer = None if parting else _refusal(text, terms, signal, named=named_errors)
    return parting or (FORWARD if answer is None else Verdict(Action.ANSWER, answer))


def _parting(text: bytes, pid: int, terms: Terms) -> Verdict | None:
    # gdb's `kill` means the process that it debugs; here that is a service, and only the debugging ends.
    kill = Action.KILL if terms.may_end else Action.END
    if text in (b"D", b"D;%x" % pid, _MONITOR_EXIT):
        return Verdict(Action.END, OK)
    if text.startswith(b"vKill;"):
        return Verdict(kill, OK)
    return {b"k": Verdict(kill), b"R": Verdict(Action.END)}.get(text[:1])


def _refusal(text: bytes, terms: Terms, signal: bytes, *, named: bool) -> bytes | None:
    """The answer in gdbserver's place; None when the packet may pass."""
    for beginning, answer in _REFUSED.items():
        if text.startswith(beginning):
            return answer
    if text.startswith(b"vFile:open:") and text.split(b",")[1:2] != [b"0"]:
        return _EPERM
    if _deadly(text) and not terms.may_end:
        return error("this session may not end the process", named=named)
    return error(READ_ONLY, named=named) if terms.read_only and not looks(text, signal) else None


def _deadly(text: bytes) -> bool:
    """Whether it resumes the process with the one signal that nothing survives."""
    if text.startswith(b"vCont;"):
        return any(action[:3] in (b"C" + SIGKILL, b"S" + SIGKILL) for action in text.split(b";")[1:])
    return text[:3] in (b"C" + SIGKILL, b"S" + SIGKILL)
