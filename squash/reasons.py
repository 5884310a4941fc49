"""Why something did not go as wished: one enum for the whole project, each with a meaning and a remedy.

Shown by the API (`status.reason`), the command line, the `x-squash-result` header and the logs.
"""

from enum import StrEnum


class Reason(StrEnum):
    """A machine-readable cause. `meaning` says what happened, `remedy` what to do about it."""

    meaning: str
    remedy: str

    def __new__(cls, value: str, meaning: str = "", remedy: str = "") -> "Reason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        member.remedy = remedy
        return member

    # -- what a client asked for -----------------------------------------------------------------
    MALFORMED = (
        "malformed",
        "the body is not a JSON document",
        "send one JSON object, encoded as UTF-8",
    )
    INVALID = (
        "invalid",
        "a field or parameter has a value that the schema does not allow",
        "correct the field that the message names; /openapi.json has the schema",
    )
    TOO_LARGE = (
        "too_large",
        "the body is larger than the server accepts",
        "send less; the message names the limit",
    )
    NOT_FOUND = (
        "not_found",
        "there is no object or path of this name",
        "`squashctl list` shows what there is; finished objects are removed after a while",
    )
    METHOD_NOT_ALLOWED = (
        "method_not_allowed",
        "this path does not answer this method",
        "/openapi.json lists the methods of each path",
    )
    FOREIGN_ORIGIN = (
        "foreign_origin",
        "a web page made the call, and no page may drive the coordinator",
        "call it from a program, such as squashctl or curl, without the headers Origin and Sec-Fetch-Site",
    )
    NAME_TAKEN = (
        "name_taken",
        "an object of this name exists already",
        "leave metadata.name out to have one made, or delete the other object first",
    )
    NAME_MISMATCH = (
        "name_mismatch",
        "the body names another object than the path",
        "leave metadata.name out of the body, or make both the same",
    )
    ILLEGAL_STEP = (
        "illegal_step",
        "the object cannot go from where it is to where this call wants it",
        "look at it again (`squashctl list`): someone else was faster, or it is over",
    )
    WAIT_TIMEOUT = (
        "wait_timeout",
        "nothing matched before the time to wait ran out",
        "ask again, or wait longer (header X-Timeout, `squashctl wait --timeout`)",
    )
    STOPPING = (
        "stopping",
        "the server is going down and answers what was still waiting",
        "ask again in a moment",
    )
    STORE_UNAVAILABLE = (
        "store_unavailable",
        "the coordinator cannot keep the object, so it changed nothing",
        "free disk space or mend the permissions of the store's file; the coordinator's log has the details",
    )
    INTERNAL = (
        "internal",
        "a fault in squash itself",
        "please report it with the log lines around it",
    )

    # -- access ------------------------------------------------------------------------------------
    UNAUTHENTICATED = (
        "unauthenticated",
        "the coordinator wants to know who calls, and was shown no token that it knows",
        "set SQUASH_TOKEN_FILE or SQUASH_TOKEN to a token; an admin makes one with `squashctl token create`",
    )
    TOKEN_EXPIRED = (
        "token_expired",
        "the token's time is over",
        "have an admin make another one (`squashctl token create`), and put it into the token file: it is read again",
    )
    TOKEN_REVOKED = (
        "token_revoked",
        "an admin took the token back",
        "ask an admin for another one (`squashctl token create`)",
    )
    FORBIDDEN = (
        "forbidden",
        "the token's role may not do this",
        "ask an admin for a token of one of the roles that the message names",
    )
    NOT_YOURS = (
        "not_yours",
        "the role may do this, but not with this object",
        "use your own, or let its owner or an admin do it: the message says what the token is for",
    )
    TUNNEL_TOKEN = (
        "tunnel_token",
        "a tunnel opens only with a token for that one debug attachment",
        "use `squashctl connect`, which gets one by itself; "
        "others ask for one with POST /api/v2/debugattachment/ID/token",
    )
    NO_AUTHENTICATION = (
        "no_authentication",
        "this coordinator asks nobody who they are, so it makes no tokens",
        "start it with `auth = token` (--auth token)",
    )
    LIMIT_REACHED = (
        "limit_reached",
        "there are as many of these at once, of one developer or for one image, as the coordinator allows",
        "end some (`squashctl list` shows them), or raise the coordinator's setting that the message names",
    )
    UPGRADE_NEEDED = (
        "upgrade_needed",
        "this path speaks WebSocket only",
        "open a WebSocket, as `squashctl connect` does",
    )

    # -- reaching a debug server -------------------------------------------------------------------
    NOT_LISTENING = (
        "not_listening",
        "the debug attachment has no debug server to connect to, not yet or no more",
        "wait for it (`squashctl wait ID --for listening`); when it is over, ask for a new debugger",
    )
    AGENT_AWAY = (
        "agent_away",
        "the coordinator cannot reach the agent that has the debugger",
        "see that squash-agent runs on the attachment's node and reaches the coordinator; its log has the details",
    )
    FROM_A_PAGE = (
        "from_a_page",
        "a web page tried to open a tunnel",
        "use `squashctl connect`: pages of any site could reach a coordinator on this machine, so none may",
    )
    STREAM_BROKEN = (
        "stream_broken",
        "the connection to the debug server broke off",
        "connect again; the debugger stays for the agent's client_grace",
    )

    # -- sessions ----------------------------------------------------------------------------------
    SESSION_BUSY = (
        "session_busy",
        "another client holds the session: there is one at a time",
        "wait until it has left, or have it make room: `squashctl connect --takeover`",
    )
    TAKEOVER_DENIED = (
        "takeover_denied",
        "this session is not yours to take over",
        "ask whoever the message names to leave, or to make room for you",
    )
    READ_ONLY = (
        "read_only",
        "the session may look, but change nothing",
        "connect without --read-only; where the debug request says read_only, make one that does not",
    )

    # -- matching ---------------------------------------------------------------------------------
    NO_PENDING_REQUEST = (
        "no_pending_request",
        "no debug request waits for this image",
        "make one first: `squashctl debug-request IMAGE`; `squashctl list requests` shows what waits",
    )
    CONTAINER_NOT_FOUND = (
        "container_not_found",
        "the platform knows no such container",
        "compare pod, namespace and container with what runs; "
        "a plain process counts when SQUASH_POD and SQUASH_IMAGE stand in its environment",
    )
    CONTAINER_AMBIGUOUS = (
        "container_ambiguous",
        "the pod has several containers that could be meant",
        "name one of those that the message lists in spec.attachment.container",
    )
    IMAGE_MISMATCH = (
        "image_mismatch",
        "the container runs another image than the one named",
        "leave spec.image out, or name the image that the message shows",
    )

    RUNTIME_UNREACHABLE = (
        "runtime_unreachable",
        "the container runtime did not answer as it should",
        "see that it runs and that its socket may be used (settings runtime_socket and docker_host)",
    )

    # -- holding -----------------------------------------------------------------------------------
    COORDINATOR_UNREACHABLE = (
        "coordinator_unreachable",
        "the coordinator did not answer in time",
        "see that it runs and that the address is right (SQUASH_SERVER_URL, `squashctl list`)",
    )
    COORDINATOR_REFUSED = (
        "coordinator_refused",
        "the coordinator answered in a way that cannot be used",
        "see that the address is a squash coordinator of version 2 of the API; its log has the details",
    )
    SIDECAR_UNREACHABLE = (
        "sidecar_unreachable",
        "Envoy got no usable answer from the sidecar",
        "see that squash-sidecar runs where Envoy's cluster points to",
    )
    TOO_MANY_HOLDS = (
        "too_many_holds",
        "the sidecar holds as many requests as it may, at all or of one pod",
        "see with `squashctl list` what is held and release what need not be; or raise the sidecar's max_holds "
        "(max_holds_per_pod where pods share it)",
    )
    HOLD_TIMEOUT = (
        "hold_timeout",
        "no debugger was ready before the longest hold ran out",
        "`squashctl list attachments` shows what it waited for; raise attachment_timeout if it needs longer",
    )
    HOLD_LOST = (
        "hold_lost",
        "the sidecar that held the request is gone or never said how it ended",
        "send the marked request again",
    )
    CALLER_GONE = (
        "caller_gone",
        "whoever sent the marked request hung up while it was held",
        "send it again with a longer client timeout (curl --max-time)",
    )
    RELEASED = (
        "released",
        "a developer let the request go without a debugger",
        "make a new debug request when you want to hold one again",
    )
    DELETED = (
        "deleted",
        "the debug attachment was deleted while the request was held",
        "make a new debug request when you want to hold one again",
    )
    EXPIRED = (
        "expired",
        "it was not used before its time to live ran out",
        "make a new one, with a longer ttl if needed",
    )

    # -- tickets -----------------------------------------------------------------------------------
    TICKET_MISSING = (
        "ticket_missing",
        "the mark is no ticket, and only tickets count here",
        "make one (`squashctl ticket create --image IMAGE`) and send it as the value of x-squash-debug",
    )
    TICKET_MALFORMED = (
        "ticket_malformed",
        "the value looks like a ticket, but cannot be read as one",
        "send the whole ticket as it was printed; `squashctl ticket show VALUE` reads it",
    )
    TICKET_FORGED = (
        "ticket_forged",
        "the ticket's signature is not one of its key",
        "make a new ticket (`squashctl ticket create`); nothing but the coordinator can sign one",
    )
    TICKET_UNKNOWN_KEY = (
        "ticket_unknown_key",
        "the ticket was signed with a key that is not known here, or no more",
        "make a new ticket; see that the sidecar asks the coordinator that issued it (`squashctl ticket keys`)",
    )
    TICKET_FOREIGN = (
        "ticket_foreign",
        "the ticket was issued by somebody else than whom we trust",
        "see that ticket_issuer is the same at the coordinator and at the sidecar",
    )
    TICKET_EARLY = (
        "ticket_early",
        "the ticket is not valid yet",
        "wait, or set the clocks; the setting clock_skew says how far they may differ",
    )
    TICKET_EXPIRED = (
        "ticket_expired",
        "the ticket is not valid any more",
        "make a new one (`squashctl ticket create`), with a longer --for if needed",
    )
    TICKET_SCOPE = (
        "ticket_scope",
        "the ticket is not for this request",
        "`squashctl ticket show VALUE` tells its image, namespace, methods and path; make one that fits",
    )
    TICKET_USED = (
        "ticket_used",
        "as many requests were held with the ticket as it allows",
        "make a new one (`squashctl ticket create`), with more --uses if needed",
    )

    # -- a sidecar shared by pods --------------------------------------------------------------------
    POD_UNKNOWN = (
        "pod_unknown",
        "the sidecar cannot tell which pod the process at the other end of the connection belongs to",
        "on the platform local set SQUASH_POD (and SQUASH_NAMESPACE) in Envoy's environment, and let it be "
        "of a user whom the sidecar may look at",
    )
    POD_MISMATCH = (
        "pod_mismatch",
        "a process claimed to speak for another pod than its own",
        "see that Envoy's configuration names its own pod; it may as well name none",
    )

    # -- asking for a debugger ---------------------------------------------------------------------
    PROCESS_AMBIGUOUS = (
        "process_ambiguous",
        "several processes of the container suit equally",
        "name one of those that the message lists: `squashctl debug container --pid PID`, or spec.pid",
    )
    PROGRAM_MISSING = (
        "program_missing",
        "the program that was to be started is not installed here",
        "install what the message names, or take another one (`squashctl debug --help`)",
    )
    ENDED = (
        "ended",
        "a developer ended it, so the debugger was detached and the process runs on",
        "make a new debug request to debug again",
    )

    # -- leases ------------------------------------------------------------------------------------
    AGENT_LOST = (
        "agent_lost",
        "no agent of the container's node is there, or the one that had the attachment is gone",
        "see that squash-agent runs on that node and reaches the coordinator, then send a new marked request",
    )

    # -- attaching ---------------------------------------------------------------------------------
    PROCESS_NOT_FOUND = (
        "process_not_found",
        "no running process of the container fits",
        "see that the container runs on this agent's node; spec.process_name must be the name of its executable",
    )
    PROCESS_GONE = (
        "process_gone",
        "the process ended, or another took its place, while the debugger was attached",
        "send the marked request again; see why the process restarts",
    )
    PROCESS_BUSY = (
        "process_busy",
        "another attachment already has a debugger in this process",
        "use that one, or delete it first: the message names it",
    )
    TRACED_BY_OTHER = (
        "traced_by_other",
        "a tracer that is not ours sits on the process",
        "end the other debugger, strace or profiler: the message names its pid, or where it comes from",
    )
    NO_DEBUGGER_CLAIMS = (
        "no_debugger_claims",
        "no debugger of this agent suits the process",
        "debug the process by hand, or install a debugger plug-in for the agent that knows such processes",
    )
    UNKNOWN_DEBUGGER = (
        "unknown_debugger",
        "this agent has no debugger of that name",
        "use one of those that the message lists, or leave it out",
    )
    DEBUGGER_MISSING = (
        "debugger_missing",
        "the debugger's program is not installed where the agent runs",
        "install what the message names (on Debian: apt-get install gdb gdbserver delve)",
    )
    DEBUGGER_UNSUITED = (
        "debugger_unsuited",
        "the debugger cannot work on this process",
        "the message says what it needs",
    )
    PTRACE_DENIED = (
        "ptrace_denied",
        "the kernel does not let the agent trace the process",
        "run the agent as the process's user or as root with CAP_SYS_PTRACE",
    )
    PTRACE_SCOPE = (
        "ptrace_scope",
        "Yama's ptrace_scope keeps the agent from tracing a process that is not its child",
        "run the agent as root, or `sysctl kernel.yama.ptrace_scope=0`",
    )
    CAPABILITY_MISSING = (
        "capability_missing",
        "the agent lacks a capability that the debugger takes for this process",
        "add those that the message names (`capabilities: add` of the pod, `cap_add` of Compose), "
        "or run the agent as the process's user",
    )
    SECCOMP_DENIED = (
        "seccomp_denied",
        "a seccomp filter stands between the debugger and the process",
        "run whichever the message names with the profile RuntimeDefault, or Unconfined",
    )
    USER_NAMESPACE = (
        "user_namespace",
        "the process lives in a user namespace where the agent has no rights",
        "run the agent in the node's own user namespace (no userns-remap, `hostUsers: true`)",
    )
    ARCHITECTURE = (
        "architecture",
        "the process runs code of a machine that the debugger does not know",
        "use an agent and a debugger made for that machine, or run the service on the node's own",
    )
    MEMORY_SHORT = (
        "memory_short",
        "the container has not enough memory left for the debugger",
        "raise the container's memory limit by what the message names, or debug another replica",
    )
    SYMBOLS_MISMATCH = (
        "symbols_mismatch",
        "the file with symbols is of another build than the executable",
        "take the file of the very build that runs: the message has both build ids",
    )
    FILES_UNREADABLE = (
        "files_unreadable",
        "the process cannot read the debugger's files or write its socket",
        "let the process's user reach the path that the message names",
    )
    RUNTIME_DIR = (
        "runtime_dir",
        "the agent could not write to its own directory, so nothing was attached",
        "make room on the disk of the agent's runtime_dir, or see what else the message says of it",
    )
    ATTACH_FAILED = (
        "attach_failed",
        "the debugger could not be attached",
        "the message has the debugger's own words",
    )
    ATTACH_TIMEOUT = (
        "attach_timeout",
        "the debugger did not come up in time",
        "try again when the process is less busy, or raise the agent's attach_timeout",
    )
    AGENT_STOPPED = (
        "agent_stopped",
        "the agent stopped and detached its debuggers",
        "start the agent again and send a new marked request",
    )
    AGENT_RESTARTED = (
        "agent_restarted",
        "the agent was started again and cleaned up what its earlier life had attached",
        "send a new marked request",
    )
    CLIENT_GONE = (
        "client_gone",
        "the debugger's client left, so the debugger was detached and the process runs on",
        "make a new debug request to debug again",
    )
    DEBUGGER_DIED = (
        "debugger_died",
        "the debug server ended by itself",
        "see whether the process still runs; the agent's log has the debugger's last words",
    )


TICKET_REFUSALS: tuple[Reason, ...] = tuple(
    each for each in Reason if each.startswith("ticket_") and each is not Reason.TICKET_MISSING
)
"""What is said of a ticket that is not accepted: for it, nobody waits."""
