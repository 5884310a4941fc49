"""The API of agents and their leases."""

from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response

from coordinator.access import caller
from coordinator.http import Body, actor, answer
from coordinator.rights import check_node
from coordinator.service import Service
from squash.errors import ApiError
from squash.model import LONGEST_TEXT, Agent
from squash.reasons import Reason
from squash.settings import CoordinatorSettings


class Agents:
    """Handlers of `openapi.OPERATIONS`, like those of `Api`."""

    def __init__(self, service: Service, settings: CoordinatorSettings) -> None:
        self._service = service
        self._body = Body(Agent, settings.max_body)

    async def list_agents(self, request: Request) -> Response:
        return answer(self._service.presence.agents())

    async def renew_agent(self, request: Request) -> Response:
        name: str = request.path_params["id"]
        wanted = await self._body.read(request)
        if wanted.name not in ("", name):
            raise ApiError(400, Reason.NAME_MISMATCH, f"the path names {name[:64]!r}, the body {wanted.name[:64]!r}")
        if not name.isprintable() or len(name) > LONGEST_TEXT:
            raise ApiError(422, Reason.INVALID, f"an agent's name is at most {LONGEST_TEXT} printable characters")
        self._check_node(request, name, wanted.node)
        return answer(self._service.renew_agent(replace(wanted, name=name)))

    async def give_up_agent(self, request: Request) -> Response:
        name: str = request.path_params["id"]
        self._check_node(request, name)
        self._service.give_up_agent(name, actor(request))
        return Response()

    def _check_node(self, request: Request, name: str, wanted: str | None = None) -> None:
        """Whether the caller may speak for this agent, which it says is of the node `wanted`."""
        principal = caller(request.scope)
        for node in (wanted, self._service.presence.node_of(name)):
            check_node(principal, node, f"agent {name[:64]!r}")
