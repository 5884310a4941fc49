"""The ready gate, fed with the bytes of real conversations in pieces of every size."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.gates import MAX_MESSAGE, DapGate, GdbGate, ProtocolViolation


def ready(gate: DapGate | GdbGate) -> bool:
    return gate.ready


def dap(**message: Any) -> bytes:
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def request(seq: int, command: str, **arguments: Any) -> bytes:
    return dap(type="request", seq=seq, command=command, arguments=arguments)


def response(seq: int, to: int, command: str, *, success: bool = True, **body: Any) -> bytes:
    return dap(type="response", seq=seq, request_seq=to, command=command, success=success, body=body)


SET = request(3, "setBreakpoints", source={"path": "/app/pricing.py"}, breakpoints=[{"line": 7}, {"line": 900}])
SET_DONE = response(4, 3, "setBreakpoints", breakpoints=[{"verified": True}, {"verified": False, "message": "no line"}])
DONE = request(5, "configurationDone")
DONE_DONE = response(6, 5, "configurationDone")


def test_dap_is_ready_once_breakpoints_and_configuration_are_answered() -> None:
    gate = DapGate()
    gate.from_client(request(1, "initialize") + request(2, "attach") + SET)
    gate.from_server(response(2, 1, "initialize"))
    assert not ready(gate)
    gate.from_client(DONE)
    gate.from_server(DONE_DONE)
    assert not ready(gate), "the breakpoints are not answered yet"
    gate.from_server(SET_DONE)
    assert ready(gate)
    assert gate.remarks() == "breakpoints not verified: /app/pricing.py:900 (no line)"


def test_dap_is_not_ready_without_configuration_done() -> None:
    gate = DapGate()
    gate.from_client(SET)
    gate.from_server(SET_DONE)
    assert not ready(gate)


def test_dap_is_not_ready_when_configuration_done_is_refused() -> None:
    gate = DapGate()
    gate.from_client(DONE)
    gate.from_server(response(6, 5, "configurationDone", success=False))
    assert not ready(gate)


@pytest.mark.parametrize("command", ["setFunctionBreakpoints", "setExceptionBreakpoints", "setInstructionBreakpoints"])
def test_dap_waits_for_breakpoints_of_every_kind(command: str) -> None:
    gate = DapGate()
    gate.from_client(request(3, command) + DONE)
    gate.from_server(DONE_DONE)
    assert not ready(gate)
    gate.from_server(response(7, 3, command))
    assert ready(gate)


def test_remarks_are_empty_when_all_breakpoints_are_verified() -> None:
    gate = DapGate()
    gate.from_client(SET + DONE)
    gate.from_server(response(4, 3, "setBreakpoints", breakpoints=[{"verified": True}, {"verified": True}]) + DONE_DONE)
    assert ready(gate)
    assert gate.remarks() == ""


@given(st.lists(st.integers(1, 40), min_size=1))
def test_dap_does_not_care_how_the_bytes_are_cut(sizes: list[int]) -> None:
    gate = DapGate()
    for piece in cut(request(1, "initialize") + SET + DONE, sizes):
        gate.from_client(piece)
    for piece in cut(response(2, 1, "initialize") + SET_DONE + DONE_DONE, sizes):
        assert not ready(gate)
        gate.from_server(piece)
    assert ready(gate)


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Content-Length: %d\r\n\r\n" % (MAX_MESSAGE + 1),
        b"Content-Length: minus\r\n\r\n{}",
        b"x" * 5000,
        b"Content-Length: 3\r\n\r\n\xff\xfe\xfd",
        b"Content-Length: 2\r\n\r\n[]",
    ],
)
def test_what_is_not_dap_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        DapGate().from_client(data)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_never_makes_a_gate_ready_or_crash(pieces: list[bytes]) -> None:
    gate = DapGate()
    try:
        for piece in pieces:
            gate.from_client(piece)
            gate.from_server(piece)
    except ProtocolViolation:
        pass
    assert not ready(gate)


def packet(body: bytes) -> bytes:
    return b"$" + body + b"#%02x" % (sum(body) % 256)


@pytest.mark.parametrize("body", [b"c", b"C05", b"vCont;c", b"vCont;c:p1.-1", b"vCont;s:p1.1;c", b"vCont;C05:1"])
def test_gdb_is_ready_at_the_first_continue(body: bytes) -> None:
    gate = GdbGate()
    gate.from_client(b"+" + packet(b"qSupported:x") + packet(b"Z0,4011b6,1"))
    assert not ready(gate)
    gate.from_client(packet(body))
    assert ready(gate)
    assert gate.remarks() == ""


@pytest.mark.parametrize("body", [b"vCont?", b"vCont;s:p1.1", b"s", b"D", b"?", b"g", b"m401000,4", b"X401000,3:$c#"])
def test_gdb_is_not_ready_before(body: bytes) -> None:
    gate = GdbGate()
    gate.from_client(packet(body))
    assert not ready(gate)


@given(st.lists(st.integers(1, 9), min_size=1))
def test_gdb_does_not_care_how_the_bytes_are_cut(sizes: list[int]) -> None:
    gate = GdbGate()
    for piece in cut(packet(b"qSupported") + b"+" + packet(b"Z0,1,1") + b"\x03", sizes):
        gate.from_client(piece)
    assert not ready(gate)
    for piece in cut(packet(b"vCont;c"), sizes):
        gate.from_client(piece)
    assert ready(gate)


def test_a_gdb_packet_without_end_is_refused() -> None:
    with pytest.raises(ProtocolViolation):
        GdbGate().from_client(b"$" + b"x" * (MAX_MESSAGE + 1))


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[start : start + size])
        start += size
    return pieces


def test_many_unverified_breakpoints_are_counted_rather_than_listed() -> None:
    gate = DapGate()
    places = [{"line": line} for line in range(1, 201)]
    gate.from_client(request(3, "setBreakpoints", source={"path": "/a.py"}, breakpoints=places) + DONE)
    gate.from_server(response(4, 3, "setBreakpoints", breakpoints=[{"verified": False}] * 200) + DONE_DONE)
    assert gate.remarks() == "breakpoints not verified: /a.py:1, /a.py:2, /a.py:3, /a.py:4, /a.py:5 and 195 more"


def test_null_means_no_breakpoints() -> None:
    gate = DapGate()
    gate.from_client(request(3, "setBreakpoints", source={"path": "/a.py"}, breakpoints=None) + DONE)
    gate.from_server(response(4, 3, "setBreakpoints", breakpoints=None) + DONE_DONE)
    assert ready(gate)
    assert gate.remarks() == ""
