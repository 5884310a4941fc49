"""Each reason explains itself."""

import re
from pathlib import Path

import pytest

import squash
from squash.errors import ApiError, SettingError, SquashError, UnreachableError
from squash.reasons import Reason

ROOT = Path(squash.__file__).parent.parent
SOURCES = [
    path.read_text()
    for package in ("agent", "coordinator", "envoy_filter", "squash")
    for path in (ROOT / package).rglob("*")
    if path.suffix in {".py", ".lua"} and path.name != "reasons.py"
]


@pytest.mark.parametrize("reason", Reason)
def test_has_meaning_and_remedy(reason: Reason) -> None:
    for text in (reason.meaning, reason.remedy):
        assert len(text) > 10
        assert text == text.strip()
        assert not text.endswith(".")
        assert "\n" not in text
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", reason.value)
    assert reason.name == reason.value.upper()
    assert Reason(reason.value) is reason


@pytest.mark.parametrize("reason", Reason)
def test_is_used(reason: Reason) -> None:
    assert any(f"Reason.{reason.name}" in text or f'"{reason.value}"' in text for text in SOURCES)


def test_no_two_say_the_same() -> None:
    assert len({reason.meaning for reason in Reason}) == len(Reason)


def test_errors_say_what_why_and_what_to_do() -> None:
    error = SquashError(Reason.PROCESS_BUSY, "process 7 is taken")
    assert str(error) == f"process 7 is taken (process_busy): {Reason.PROCESS_BUSY.remedy}"
    assert SquashError(Reason.PROCESS_BUSY).message == Reason.PROCESS_BUSY.meaning
    assert (ApiError(404, Reason.NOT_FOUND).code, ApiError(404, Reason.NOT_FOUND).reason) == (404, Reason.NOT_FOUND)
    assert UnreachableError("gone").reason is Reason.COORDINATOR_UNREACHABLE


def test_a_bad_setting_says_only_what_is_wrong_with_it() -> None:
    assert str(SettingError("node = '' cannot be used")) == "node = '' cannot be used"
