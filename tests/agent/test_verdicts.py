"""What a client of gdbserver may do, on which terms."""

import pytest

from agent.rsp import OK, error
from agent.terms import ORDINARY, Terms
from agent.verdicts import FORWARD, READ_ONLY, Action, Kind, judge, kind

LOOKING = Terms(read_only=True)
REFUSED = error(READ_ONLY, named=False)


@pytest.mark.parametrize(
    ("text", "action", "answer"),
    [
        (b"D", Action.END, OK),
        (b"D;7b", Action.END, OK),
        (b"vKill;7b", Action.END, OK),
        (b"qRcmd,65786974", Action.END, OK),  # monitor exit
        (b"k", Action.END, None),
        (b"R00", Action.END, None),
        (b"vRun;2f62696e2f7368", Action.ANSWER, b"E01"),
        (b"vAttach;1", Action.ANSWER, b"E01"),
        (b"QNonStop:1", Action.ANSWER, b""),
        (b"vFile:open:2f78,241,180", Action.ANSWER, b"F-1,1"),
        (b"vFile:pwrite:5,0,x", Action.ANSWER, b"F-1,1"),
        (b"vFile:unlink:2f78", Action.ANSWER, b"F-1,1"),
    ],
)
def test_what_would_kill_or_write_is_not_passed_on(text: bytes, action: Action, answer: bytes | None) -> None:
    assert judge(text, 123, ORDINARY) == (action, answer)


@pytest.mark.parametrize(
    "text", [b"D;7c", b"vCont;c", b"g", b"QNonStop:0", b"vFile:open:2f78,0,1c0", b"qRcmd,68656c70", b"vCont?"]
)
def test_the_rest_is(text: bytes) -> None:
    assert judge(text, 123, ORDINARY) == FORWARD


@pytest.mark.parametrize("text", [b"k", b"vKill;7b"])
def test_a_kill_kills_where_that_is_allowed(text: bytes) -> None:
    assert judge(text, 123, Terms(allow_terminate=True)).action is Action.KILL
    assert judge(text, 123, Terms(allow_terminate=True, read_only=True)).action is Action.END


@pytest.mark.parametrize("text", [b"C09", b"vCont;C09:p7b.-1", b"vCont;s:1;C09", b"S09"])
def test_the_signal_that_kills_is_not_passed_on(text: bytes) -> None:
    assert judge(text, 123, ORDINARY) == (Action.ANSWER, b"E01")
    assert judge(text, 123, Terms(allow_terminate=True)) == FORWARD


@pytest.mark.parametrize(
    "text",
    [
        *(b"qSupported:multiprocess+;swbreak+", b"vMustReplyEmpty", b"QStartNoAckMode", b"Hgp0.0", b"qTStatus", b"?"),
        *(b"qXfer:features:read:target.xml:0,ffb", b"qAttached:7b", b"qC", b"qfThreadInfo", b"qsThreadInfo", b"!"),
        *(b"g", b"p10", b"m7ffe0000,40", b"x7ffe0000,40", b"T7b", b"Hcp7b.-1", b"qSymbol::", b"qCRC:400000,100"),
        *(b"Z0,4011b6,1", b"z0,4011b6,1", b"Z2,404010,4", b"c", b"s", b"vCont?", b"vCont;c", b"vCont;c:p7b.-1"),
        *(b"vCont;s:p7b.7b;c:p7b.-1", b"vCont;r401100,401120:p7b.7b", b"vCont;t", b"C05", b"vCont;C05:p7b.7c"),
        *(b"vFile:setfs:0", b"vFile:open:2f78,0,1c0", b"vFile:pread:5,3fff,0", b"vFile:close:5", b"vFile:fstat:5"),
        *(b"QPassSignals:e;10;14", b"QProgramSignals:0;1;3", b"QThreadEvents:1", b"QNonStop:0"),
    ],
)
def test_a_session_that_only_looks_may(text: bytes) -> None:
    assert judge(text, 123, LOOKING, signal=b"05") == FORWARD


@pytest.mark.parametrize(
    "text",
    [
        *(b"M4000,1:cc", b"X4000,1:x", b"G0000", b"P10=00", b"qRcmd,68656c70", b"QTDP:1:4000:E:0:0", b"QTStart"),
        *(
            b"c4000",
            b"s4000",
            b"C05;4000",
            b"C0b",
            b"S0b",
            b"vCont;C0b:1",
            b"vCont;S0b:1;c",
            b"vCont;c;x",
            b"vCont;X05",
        ),
        *(
            b"vFlashErase:0,1",
            b"qXfer:siginfo:write:0:x",
            b"QEnvironmentReset",
            b"QSetWorkingDir:2f",
            b"i",
            b"t",
            b"b1",
        ),
        *(
            b"vCont;X05",
            b"b1",
            b"F0",
            b"A5,0,x",
            b"vSomethingNew",
            b"Qbtrace:pt",
            b"qTSave:2f78",
            b"jGetSomething:",
            b"",
        ),
    ],
)
def test_a_session_that_only_looks_may_not(text: bytes) -> None:
    assert judge(text, 123, LOOKING, signal=b"05") == (Action.ANSWER, REFUSED)
    words = judge(text, 123, LOOKING, signal=b"05", named_errors=True).answer
    assert words == b"E." + READ_ONLY.encode()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (b"k", (Kind.KILL, "kill")),
        (b"vKill;7b", (Kind.KILL, "kill")),
        (b"D", (Kind.LEAVE, "detach")),
        (b"vCont;c:p1.-1", (Kind.RESUME, "continue")),
        (b"C05", (Kind.RESUME, "continue")),
        (b"vCont;s:1", (Kind.RESUME, "step")),
        (b"M4000,4:00", (Kind.CHANGE, "memory")),
        (b"P10=0000", (Kind.CHANGE, "registers")),
        (b"qRcmd,68", (Kind.CHANGE, "monitor command")),
        (b"m4000,4", (Kind.LOOK, "")),
        (b"vCont?", (Kind.LOOK, "")),
    ],
)
def test_what_a_packet_is_about(text: bytes, meant: tuple[Kind, str]) -> None:
    assert kind(text) == meant
