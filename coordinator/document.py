"""The OpenAPI document, made from the table of operations."""

from typing import Any

import msgspec

from coordinator.openapi import OPERATIONS
from coordinator.operation import JSON, Operation, Parameter
from squash import __version__
from squash.access import Role
from squash.model import PYTHON_ALONE, Refusal
from squash.reasons import Reason

_REF = "#/components/schemas/{name}"
_SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Needed where the coordinator runs with `auth = token`. `x-roles` names who may make a call.",
    },
    "certificate": {
        "type": "mutualTLS",
        "description": "CN: who calls; OU: the role. Needs the setting tls_client_ca.",
    },
}


def document() -> bytes:
    """The OpenAPI 3.1 document as JSON."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    bodies = (operation.body for operation in OPERATIONS if operation.body is not None)
    answers = (operation.answer for operation in OPERATIONS if operation.media == JSON and operation.answer is not None)
    _, schemas = msgspec.json.schema_components([Refusal, *bodies, *answers], ref_template=_REF)
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": "Squash coordinator",
            "version": __version__,
            "description": "Matches marked requests with the developers who wait for them.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": _SCHEMES},
    }
    return msgspec.json.encode(_for_every_dialect(whole))


def _for_every_dialect(value: Any) -> Any:
    """The same with patterns as other dialects know them: the part for Python alone left out (squash.model)."""
    if isinstance(value, dict):
        return {key: _for_every_dialect(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_for_every_dialect(inner) for inner in value]
    return value.removesuffix(PYTHON_ALONE) if isinstance(value, str) else value


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.text,
        "responses": {str(operation.code): _success(operation)}
        | {str(code): _refused(reasons) for code, reasons in sorted(_refusals(operation).items())},
        "security": _security(operation),
    }
    if operation.roles is not None:
        described["x-roles"] = [role for role in Role if role in operation.roles or role is Role.ADMIN]
    if operation.websocket:
        described["x-websocket"] = True
    if operation.tunnel:
        described["x-tunnel-token"] = True
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": _schema(operation.body)}}}
    return described


def _success(operation: Operation) -> dict[str, Any]:
    success: dict[str, Any] = {"description": operation.text}
    if operation.answer is not None:
        success["content"] = {operation.media: {"schema": _schema(operation.answer)}}
    return success


def _refusals(operation: Operation) -> dict[int, tuple[Reason, ...]]:
    """Those of every operation, and its own."""
    every: dict[int, tuple[Reason, ...]] = {403: (Reason.FOREIGN_ORIGIN,), 500: (Reason.INTERNAL,)}
    if operation.roles is not None:
        every[401] = (Reason.UNAUTHENTICATED, Reason.TOKEN_EXPIRED, Reason.TOKEN_REVOKED)
        every[403] += (Reason.FORBIDDEN, Reason.NOT_YOURS)
    if operation.websocket:
        every[426] = (Reason.UPGRADE_NEEDED,)
    own = operation.refusals
    return {code: tuple(dict.fromkeys((*own.get(code, ()), *every.get(code, ())))) for code in {*own, *every}}


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.roles is None:
        return []
    # A tunnel's token is made for it, also for those who show a certificate.
    return [{"token": []}] if operation.tunnel else [{"token": []}, {"certificate": []}]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    described = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.text,
        "schema": parameter.schema,
    }
    return described | ({"required": True} if parameter.where == "path" else {})


def _refused(reasons: tuple[Reason, ...]) -> dict[str, Any]:
    text = "; ".join(f"`{reason}`: {reason.meaning}" for reason in reasons)
    return {"description": text, "content": {JSON: {"schema": _schema(Refusal)}}}


def _schema(wanted: Any) -> dict[str, Any]:
    return msgspec.json.schema_components([wanted], ref_template=_REF)[0][0]
