"""From the wish for a debugger to the process that runs on without one: what all stories have in common."""

import contextlib
import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo.caller import Request, get
from demo.scenes import Desk, Scene
from demo.telling import CheckError, Teller, check, line_of
from demo.world import BIN
from squash.model import Outcome


class Debugging(ABC):
    """One story's way to the services and to their debug servers."""

    def __init__(self, teller: Teller, directory: Path) -> None:
        self.teller = teller
        self._directory = directory

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """Of the programs that are started here; squashctl finds its coordinator in it."""

    @abstractmethod
    def url(self, scene: Scene) -> str:
        """Of the request that shows the bug."""

    @abstractmethod
    def file(self, scene: Scene) -> str:
        """The scene's source, as the process knows it."""

    @abstractmethod
    def program(self, scene: Scene) -> Path | None:
        """The program with its symbols, where that is on this machine."""

    @abstractmethod
    def reach(self, attachment: Mapping[str, Any]) -> contextlib.AbstractContextManager[str]:
        """Where the debug server of an attachment is reached."""

    @abstractmethod
    def is_the_service(self, scene: Scene, pid: int) -> None:
        """Checks that it is the process that ran already."""

    @abstractmethod
    def is_free(self, pid: int) -> None:
        """Checks that nobody debugs this process."""

    def debug(self, scene: Scene) -> None:
        """The whole of it. Raises one of `demo.telling.FAILURES`."""
        say, url, line = self.teller.say, self.url(scene), line_of(scene.source, scene.line)
        check("the wrong answer", scene.shown(get(url).body), scene.wrong)
        wish = self.ctl("debug-request", f"demo/{scene.name}")
        held = Request(url, marked=True)
        say(held.curl)
        attachment = self.listening(wish)
        pid = attachment["status"]["pid"]
        self.is_the_service(scene, pid)
        check("the request is held", held.answered, False)
        say(f"held; {attachment['status']['debugger']} attached to process {pid}, no restart")
        with self.reach(attachment) as address:
            program, environment = self.program(scene), self.environment()
            scene.play(Desk(say, address, self.file(scene), line, held, self._directory, environment, program))
        answer = held.answer()
        say(f"the answer, with the changed value: {scene.shown(answer.body)}, not {scene.wrong}")
        check("the changed answer", scene.shown(answer.body), scene.right)
        # Else the answer is from a service that called this one, and tells of its own Envoy.
        if url.endswith(scene.page):
            say(f"x-squash-result: {answer.result}")
            check("the outcome", answer.result and answer.result.outcome, Outcome.ATTACHED)
        self.detach(attachment)
        check("the service as it was", scene.shown(get(url).body), scene.wrong)

    def listening(self, wish: Mapping[str, Any]) -> dict[str, Any]:
        """The attachment that a debug request is matched to, once its debug server listens."""
        return self.ctl("wait", wish["metadata"]["name"], "--for", "listening", "--timeout", "30")

    def detach(self, attachment: Mapping[str, Any]) -> None:
        self.ctl("delete", attachment["metadata"]["name"])
        pid = attachment["status"]["pid"]
        self.is_free(pid)
        self.teller.say(f"detached: process {pid} runs on, untraced")

    def ctl(self, *words: str) -> dict[str, Any]:
        """`squashctl … --json`; raises CheckError with its own words when it fails."""
        self.teller.say(f"$ squashctl {' '.join(words)}", style="dim")
        done = subprocess.run(
            [str(BIN / "squashctl"), *words, "--json"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=self.environment(), timeout=60,
        )  # fmt: skip
        if done.returncode:
            raise CheckError(f"squashctl {' '.join(words)} ended with {done.returncode}: {done.stderr.strip()}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found
