"""What a JDWP session may do, and what is written down of it (Java SE, JDWP specification)."""

from agent.protocols.interpreter import Event
from agent.protocols.jdwp_packets import Command, Packet, Wish, wish
from agent.terms import Terms
from squash.model import Action

DISPOSE, SUSPEND, RESUME, EXIT = (1, 6), (1, 8), (1, 9), (1, 10)
SUSPEND_THREAD, RESUME_THREAD = (11, 2), (11, 3)
SET_EVENT = (15, 1)
CLASS_PREPARE = 8
"""The kind of event that a debugger asks for when the class of a breakpoint is not loaded yet."""
POINTS = {2: "breakpoint", 20: "watchpoint", 21: "watchpoint", 40: "method", 41: "method", 42: "method"}
"""Kinds of event that only a developer asks for. Of exceptions debuggers ask by themselves."""
_CHANGES: dict[Command, str] = {
    (1, 11): "CreateString",
    (1, 18): "RedefineClasses",
    (1, 19): "SetDefaultStratum",
    (3, 2): "SetStaticValues",
    (9, 2): "SetFieldValues",
    (11, 10): "Stop",
    (11, 11): "Interrupt",
    (11, 14): "ForceEarlyReturn",
    (13, 3): "SetArrayValues",
    (16, 2): "SetLocalValues",
    (16, 4): "PopFrames",
}
_EVALUATES: dict[Command, str] = {
    (3, 3): "InvokeStaticMethod",
    (3, 4): "NewInstance",
    (4, 1): "NewArray",
    (5, 1): "InvokeInterfaceMethod",
    (9, 6): "InvokeMethod",
}
_STEERS: dict[Command, str] = {
    SUSPEND: "Suspend",
    RESUME: "Resume",
    SUSPEND_THREAD: "SuspendThread",
    RESUME_THREAD: "ResumeThread",
    (1, 15): "HoldEvents",
    (1, 16): "ReleaseEvents",
}
_LOOKS = frozenset(
    {
        *((1, number) for number in (1, 2, 3, 4, 5, 6, 7, 12, 13, 14, 17, 20, 21, 22)),
        *((2, number) for number in range(1, 20)),
        (3, 1),
        *((6, number) for number in range(1, 6)),
        *((9, number) for number in (1, 3, 4, 5, 7, 8, 9, 10)),
        (10, 1),
        *((11, number) for number in (1, 4, 5, 6, 7, 8, 9, 12, 13, 15)),
        *((12, number) for number in (1, 2, 3)),
        *((13, number) for number in (1, 2)),
        (14, 1),
        *((15, number) for number in (1, 2, 3)),
        *((16, number) for number in (1, 3)),
        (17, 1),
        *((18, number) for number in (1, 2)),
    }
)
"""What a session that may only look may ask, besides steering. Everything else, known or not, is refused."""


def refusal(packet: Packet, terms: Terms) -> str:
    """The name of a command that the session may not give; empty when it may. `EXIT` is not for this."""
    command = packet.command
    if not terms.read_only:
        return ""
    if terms.looks_only and command in _STEERS:
        return _STEERS[command]
    if terms.looks_only and command == SET_EVENT and wish(packet.body).suspends:
        return "a breakpoint"
    if command in _LOOKS or command in _STEERS:
        return ""
    return _CHANGES.get(command) or _EVALUATES.get(command) or f"command {command[0]}.{command[1]}"


def event(packet: Packet) -> Event | None:
    """What is written down of a command that is passed on."""
    command = packet.command
    if command in _CHANGES:
        return Event(Action.CHANGED, _CHANGES[command])
    if command in _EVALUATES:
        return Event(Action.EVALUATED, _EVALUATES[command])
    if command in (RESUME, RESUME_THREAD):
        return Event(Action.RESUMED, _STEERS[command])
    if command in (SUSPEND, SUSPEND_THREAD):
        return Event(Action.PAUSED, _STEERS[command])
    if command == SET_EVENT and (what := POINTS.get(wish(packet.body).kind)):
        return Event(Action.BREAKPOINTS, f"1 {what}")
    return Event(Action.TERMINATED, "Exit") if command == EXIT else None


def stops(asked: Wish) -> bool:
    """Whether this is what a debugger asks for to stop at a breakpoint, now or when its class is loaded."""
    if asked.kind in POINTS:
        return asked.suspends
    # JDI itself asks for every class, and stops nobody for it.
    return asked.kind == CLASS_PREPARE and asked.suspends and asked.filtered
