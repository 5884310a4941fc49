"""`squash-agent`: wires the agent and runs it until SIGTERM."""

import asyncio
import contextlib
import signal
import sys

import uvloop

from agent import containers, debuggers
from agent.attach import Tools
from agent.audit import LAST, Audit
from agent.lease import Lease, describe
from agent.loop import Loop
from agent.nursery import Nursery
from agent.places import Places
from agent.preflight import gather, node
from agent.preflight.finding import Level
from agent.targets import Targets
from agent.tunnel import Tunnel
from squash import companions, logs, options, serve
from squash.client import AsyncClient
from squash.credentials import Credentials
from squash.errors import SettingError
from squash.logs import Log
from squash.settings import AgentSettings
from squash.tasks import spawn

_log = Log("agent")
DESCRIPTION = (
    "Attaches native debuggers to the processes of this node when the coordinator says so. "
    "`squash-agent doctor` tells what it could do here."
)


async def run(settings: AgentSettings) -> None:
    """Runs the agent until SIGTERM or SIGINT; every debugger is detached then. Raises SettingError."""
    credentials = Credentials.of(settings.server_url, settings)
    check_debug_listen(settings)
    places = Places(settings.runtime_dir)
    async with (
        _companion(settings),
        AsyncClient(settings.server_url, credentials=credentials) as client,
        AsyncClient(settings.server_url, credentials=credentials) as renewals,
    ):
        tools = Tools(
            agent=places.identity,
            settings=settings,
            client=client,
            containers=containers.load(settings),
            debuggers=debuggers.installed(),
            places=places,
            targets=Targets(),
            guards=Nursery(),
            slots=asyncio.Semaphore(settings.concurrency),
            audit=Audit(client),
        )
        auditing = spawn(tools.audit.run(), "audit")
        loop = Loop(tools)
        work = spawn(loop.run(), "loop")
        own = describe(places.identity, settings.node, tools.debuggers)
        lease = Lease(renewals, own, loop.let_go_unwatched, places.heard)
        renewing = spawn(lease.run(), "lease")
        tunnel = spawn(Tunnel(settings.server_url, places.identity, loop.door, credentials).run(), "tunnel")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, work.cancel)
        looking = spawn(look_around(), "look at what this agent may do")
        serve.announce("squash-agent", f"node {settings.node}")
        with contextlib.suppress(asyncio.CancelledError):
            await work
        for task in (tunnel, renewing, looking):
            task.cancel()
        tools.audit.close()
        going = spawn(lease.give_up(), "end of the lease")
        await asyncio.wait({auditing, going}, timeout=LAST)
        for task in (auditing, going):
            task.cancel()
        await asyncio.wait({tunnel, renewing, auditing, going})
        await tools.guards.close()
    places.close()


async def look_around() -> None:
    """Says in the log what this agent lacks for all its work; and tries now what the first attach would wait for."""
    agent = await asyncio.to_thread(gather.agent)
    for found in node.examine(agent, sockets=()):
        if found.level is not Level.OK and found.check != node.RUNTIMES:
            _log.warning(found.message, check=found.check, remedy=found.remedy)


def _companion(settings: AgentSettings) -> contextlib.AbstractAsyncContextManager[None]:
    if settings.sidecar_listen is None:
        return contextlib.nullcontext()
    return companions.load("sidecar")({"listen": str(settings.sidecar_listen), "server_url": settings.server_url})


def check_debug_listen(settings: AgentSettings) -> None:
    """Raises SettingError for an address at which anybody could control what is debugged, unless that is wished."""
    address = settings.debug_listen
    if address and not address.is_loopback and not settings.insecure_debug_listen:
        raise SettingError(
            f"debug_listen = '{address}' would let other machines control what is debugged: choose an address of "
            "127.0.0.1, or say --insecure-debug-listen; `squashctl connect` reaches debug servers from anywhere"
        )


def main() -> None:
    if sys.argv[1:2] == ["doctor"]:
        from agent import doctor  # noqa: PLC0415 - an agent that runs never needs it

        raise SystemExit(doctor.main(sys.argv[2:]))
    settings = options.load_or_exit(AgentSettings, "agent", DESCRIPTION)
    logs.setup(settings.log_level, settings.log_format)
    serve.allow_many_files()
    try:
        uvloop.run(run(settings))
    except SettingError as error:
        options.die("agent", error, 2)
