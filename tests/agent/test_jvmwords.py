"""Files that a JVM was told to take options from: whoever rules its container chose their names, and what is there."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import jvmwords
from agent.process import Process
from tests.slowness import SLOWNESS

PROGRAM = "print(flush=True); import sys; sys.stdin.read()"
SECRET = "-Dsecret=of-the-agent"


@contextmanager
def told(*words: str, cwd: Path, environment: Mapping[str, str] = {}) -> Iterator[Process]:
    """A process that was told this at its start, as a JVM would be."""
    argv = [sys.executable, "-c", PROGRAM, *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, cwd=cwd, env=os.environ | environment) as child:
        assert child.stdout
        assert child.stdout.readline()
        found = Process.read(child.pid)
        assert found
        yield found


def heard(process: Process) -> list[str]:
    """Without what makes it a process."""
    return list(jvmwords.words(process))[2:]


@pytest.fixture
def container(tmp_path: Path) -> Path:
    """A directory, beside which is a file that is not the container's."""
    (tmp_path / "secret").write_text(SECRET)
    made = tmp_path / "container"
    (made / "conf").mkdir(parents=True)
    (made / "conf/words").write_text("-Xmx1g # much\n'-Da=b c'\n")
    return made


@pytest.mark.parametrize("name", ["conf/words", "./conf/../conf/words", "{}/conf/words", "{}/conf/../conf//words"])
def test_files_of_arguments_are_read(name: str, container: Path) -> None:
    with told("@" + name.format(container), "@@kept", cwd=container) as process:
        assert heard(process) == ["-Xmx1g", "-Da=b c", "@@kept"]


def test_so_are_those_that_a_variable_names(container: Path) -> None:
    with told("last", cwd=container, environment={"JDK_JAVA_OPTIONS": "-ea @conf/words"}) as process:
        assert list(jvmwords.words(process)) == ["-ea", "-Xmx1g", "-Da=b c", "-c", PROGRAM, "last"]


@pytest.mark.parametrize("how", ["file", "directory", "upwards"])
@pytest.mark.parametrize("where", ["absolute", "relative"])
def test_no_name_leads_out_of_the_container(how: str, where: str, container: Path) -> None:
    (container / "link").symlink_to(container.parent / "secret" if how == "file" else container.parent)
    name = {"file": "link", "directory": "link/secret", "upwards": "../secret"}[how]
    if where == "absolute":
        name = f"{container}/{name}" if how != "upwards" else f"{container}/link/../secret"
    with told(f"@{name}", "last", cwd=container) as process:
        assert heard(process) == ["last"]


def test_a_pipe_is_not_waited_for(container: Path) -> None:
    os.mkfifo(container / "pipe")
    with told("@pipe", "last", cwd=container) as process:
        assert heard(process) == ["last"]


def test_of_a_file_without_end_a_part_is_read(container: Path) -> None:
    with (container / "conf/words").open("a") as file:
        file.write("x" * 4096)
        file.truncate(1 << 40)
    with told("@conf/words", "last", cwd=container) as process:
        [first, *_, last] = heard(process)
        assert (first, last) == ("-Xmx1g", "last")


def test_files_are_read_as_long_as_they_are_few(container: Path) -> None:
    with told(*["@conf/words"] * 20_000, "last", cwd=container) as process:
        found = heard(process)
        assert found[:2] == ["-Xmx1g", "-Da=b c"]
        assert len(found) < 2000
        assert found[-1] == "last"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  -ea\t-Xmx1g\n\n-Da=b ",
        """ -Da='b "c" d' "-De=f g" -Dh="i j"k'l m' """,
        r""" "-Da=\"b\\c\d\"" -De=f\ g '-Dh=\i' """,
        "-Da=b # not 'this\n-Dc=d\n#nor this",
        "''",
    ],
)
def test_words_are_told_apart_as_by_a_shell(text: str) -> None:
    assert jvmwords._split(text) == shlex.split(text, comments=True)


@pytest.mark.parametrize("text", ["-Da='b c", '"', "a\\", '-Da=b -D"c d'])
def test_a_quotation_without_an_end_is_none(text: str) -> None:
    assert jvmwords._split(text) == text.split()


def test_a_mark_within_a_word_is_no_comment() -> None:
    assert jvmwords._split("-Da=b#c") == ["-Da=b#c"]


LONG = {
    "word": "x" * (1 << 20),
    "quotation": "'" + "x" * (1 << 20),
    "quotations": "\"'" * (1 << 19),
    "escaped": '"' + '\\"' * (1 << 19),
    "comments": "#" * (1 << 20),
}


@pytest.mark.parametrize("kind", LONG)
def test_a_long_word_takes_no_longer_than_many(kind: str) -> None:
    """In a process of its own, which ends after this at the latest."""
    code = "import sys; from agent.jvmwords import _split; print(len(_split(sys.stdin.read())))"
    argv = [sys.executable, "-c", code]
    subprocess.run(argv, input=LONG[kind], text=True, check=True, capture_output=True, timeout=8 * SLOWNESS)
