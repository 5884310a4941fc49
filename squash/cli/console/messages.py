"""What a debug server says, as far as the console looks into it. Lenient: what is left out has a harmless default.

Source: https://microsoft.github.io/debug-adapter-protocol/specification
"""

from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base: fields are camelCase on the wire, and those we do not know are passed over."""


class Filter(Wire, frozen=True, kw_only=True):
    filter: str
    label: str = ""
    default: bool = False


class Capabilities(Wire, frozen=True, kw_only=True):
    """What the debug server can do beyond the least."""

    supports_configuration_done_request: bool = False
    supports_function_breakpoints: bool = False
    supports_conditional_breakpoints: bool = False
    supports_hit_conditional_breakpoints: bool = False
    supports_log_points: bool = False
    supports_set_variable: bool = False
    supports_set_expression: bool = False
    supports_goto_targets_request: bool = False
    supports_completions_request: bool = False
    supports_modules_request: bool = False
    supports_loaded_sources_request: bool = False
    supports_exception_info_request: bool = False
    supports_terminate_request: bool = False
    support_terminate_debuggee: bool = False
    supports_cancel_request: bool = False
    exception_breakpoint_filters: list[Filter] | None = None


class Source(Wire, frozen=True, kw_only=True):
    path: str | None = None
    name: str | None = None
    source_reference: int | None = None

    @property
    def shown(self) -> str:
        return self.path or self.name or "?"


class Thread(Wire, frozen=True, kw_only=True):
    id: int
    name: str = ""


class Threads(Wire, frozen=True, kw_only=True):
    threads: list[Thread] = []


class Frame(Wire, frozen=True, kw_only=True):
    id: int
    name: str = "?"
    line: int = 0
    column: int = 0
    source: Source | None = None

    @property
    def path(self) -> str:
        return self.source.shown if self.source else "?"


class Stack(Wire, frozen=True, kw_only=True):
    stack_frames: list[Frame] = []
    total_frames: int | None = None


class Scope(Wire, frozen=True, kw_only=True):
    name: str = ""
    variables_reference: int = 0
    expensive: bool = False
    presentation_hint: str | None = None


class Scopes(Wire, frozen=True, kw_only=True):
    scopes: list[Scope] = []


class Variable(Wire, frozen=True, kw_only=True):
    name: str = "?"
    value: str = ""
    type: str | None = None
    variables_reference: int = 0


class Variables(Wire, frozen=True, kw_only=True):
    variables: list[Variable] = []


class Evaluated(Wire, frozen=True, kw_only=True):
    result: str = ""
    type: str | None = None
    variables_reference: int = 0


class Changed(Wire, frozen=True, kw_only=True):
    """The answer to setVariable and setExpression."""

    value: str = ""


class Answered(Wire, frozen=True, kw_only=True):
    """What became of one breakpoint."""

    id: int | None = None
    verified: bool = False
    message: str | None = None
    line: int | None = None


class Breakpoints(Wire, frozen=True, kw_only=True):
    breakpoints: list[Answered] | None = None


class BreakpointEvent(Wire, frozen=True, kw_only=True):
    reason: str = ""
    breakpoint: Answered = Answered()


class Stopped(Wire, frozen=True, kw_only=True):
    reason: str = "?"
    description: str | None = None
    text: str | None = None
    thread_id: int | None = None
    all_threads_stopped: bool = False
    hit_breakpoint_ids: list[int] | None = None


class Continued(Wire, frozen=True, kw_only=True):
    thread_id: int | None = None
    all_threads_continued: bool = False


class ThreadEvent(Wire, frozen=True, kw_only=True):
    reason: str = ""
    thread_id: int = 0


class OutputEvent(Wire, frozen=True, kw_only=True):
    category: str | None = None
    output: str = ""


class Exited(Wire, frozen=True, kw_only=True):
    exit_code: int = 0


class SourceText(Wire, frozen=True, kw_only=True):
    content: str = ""


class Target(Wire, frozen=True, kw_only=True):
    id: int
    label: str = ""
    line: int = 0


class Targets(Wire, frozen=True, kw_only=True):
    targets: list[Target] = []


class Completion(Wire, frozen=True, kw_only=True):
    label: str
    text: str | None = None
    start: int | None = None
    length: int | None = None


class Completions(Wire, frozen=True, kw_only=True):
    targets: list[Completion] = []


class ExceptionDetails(Wire, frozen=True, kw_only=True):
    message: str | None = None
    type_name: str | None = None
    full_type_name: str | None = None


class ExceptionInfo(Wire, frozen=True, kw_only=True):
    exception_id: str = ""
    description: str | None = None
    details: ExceptionDetails | None = None


class Module(Wire, frozen=True, kw_only=True):
    path: str | None = None


class Modules(Wire, frozen=True, kw_only=True):
    modules: list[Module] = []


class LoadedSources(Wire, frozen=True, kw_only=True):
    sources: list[Source] = []


class Nothing(Wire, frozen=True, kw_only=True):
    """A body that is of no interest."""


def read(body: Any, kind: type[T]) -> T:
    """Raises msgspec.ValidationError when the body is of another form."""
    return msgspec.convert(body or {}, kind, strict=False)
