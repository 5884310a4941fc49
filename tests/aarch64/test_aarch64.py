"""Tests of other folders, and one of this, inside an emulated aarch64: the injector, and a session of debugpy."""

import pytest

from tests.aarch64.machine import Outcome, play

INJECT = "tests/agent/test_inject.py"
TESTS = (
    f"{INJECT}::test_whoever_is_killed_the_thread_goes_on",
    f"{INJECT}::test_a_real_interpreter_goes_on_too",
    f"{INJECT}::test_a_signal_in_the_middle_still_interrupts_the_system_call",
    f"{INJECT}::test_the_code_is_what_its_source_assembles_to",
    f"{INJECT}::test_slack_is_behind_the_code",
    f"{INJECT}::test_code_of_another_version_is_left_alone",
    f"{INJECT}::test_a_full_queue_is_told",
    f"{INJECT}::test_a_pid_that_is_another_program_by_now_is_left_alone",
    f"{INJECT}::test_whoever_has_the_number_by_now_is_not_written_to",
    "tests/aarch64/test_session.py::test_a_breakpoint_is_hit_in_a_thread_that_starts_later",
    "tests/agent/test_ways.py::test_without_gdb_the_last_way_says_so",
)

pytestmark = pytest.mark.timeout(0)  # the machine has a limit of its own


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[Outcome]], str]:
    return play(tmp_path_factory.mktemp("aarch64"), list(TESTS))


@pytest.mark.parametrize("test", TESTS)
def test_on_aarch64(test: str, seen: tuple[dict[str, list[Outcome]], str]) -> None:
    outcomes, said = seen
    assert test in outcomes, f"it was not run to its end; the console's last words: {said[-2000:]}"
    for outcome in outcomes[test]:
        assert not outcome.failure, f"{outcome.test}: {outcome.failure}"
    skipped = [outcome.skipped for outcome in outcomes[test] if outcome.skipped]
    assert len(skipped) < len(outcomes[test]), f"nothing of it could be run there: {skipped[0]}"
