"""The calls about tokens."""

from starlette.requests import Request
from starlette.responses import Response

from coordinator.access import Access, caller
from coordinator.board import Board
from coordinator.http import PRIVATE, Body, actor, answer
from coordinator.rights import check_place
from squash.access import TokenWish, TunnelWish
from squash.settings import CoordinatorSettings


class TokenApi:
    """Handlers of `openapi.OPERATIONS`, like those of `Api`."""

    def __init__(self, access: Access, board: Board, settings: CoordinatorSettings) -> None:
        self._access = access
        self._board = board
        self._wish = Body(TokenWish, settings.max_body)
        self._tunnel = Body(TunnelWish, settings.max_body)

    async def create_token(self, request: Request) -> Response:
        return answer(self._access.create(await self._wish.read(request), actor(request)), 201, PRIVATE)

    async def list_tokens(self, request: Request) -> Response:
        return answer(self._access.tokens.listed())

    async def revoke_token(self, request: Request) -> Response:
        return answer(self._access.revoke(request.path_params["id"], actor(request)))

    async def create_tunnel_token(self, request: Request) -> Response:
        wish = await self._tunnel.read(request)
        attachment = self._board.attachment(request.path_params["id"])
        principal = caller(request.scope)
        check_place(principal, attachment.spec)
        issued = self._access.tunnel_token(principal, attachment, read_only=wish.read_only)
        return answer(issued, 201, PRIVATE)
