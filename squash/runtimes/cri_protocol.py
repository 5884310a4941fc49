"""The Container Runtime Interface `runtime.v1`: the part of it that tells containers and their processes.

Field numbers are those of the Kubernetes project's cri-api; protobuf skips the fields that are not listed. The classes
are made from this table when they are needed, so nothing generated has to be kept or built.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "runtime.v1"
SERVICE = f"{PACKAGE}.RuntimeService"
IMAGES = f"{PACKAGE}.ImageService"
RUNNING = 1
"""CONTAINER_RUNNING of the enum ContainerState."""

_Kind = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Kind.TYPE_STRING, "bytes": _Kind.TYPE_BYTES, "bool": _Kind.TYPE_BOOL, "int64": _Kind.TYPE_INT64}
# An enum is a number on the wire, and unknown values of it stay what they are.
_SCALARS |= {"enum": _Kind.TYPE_INT32, "uint32": _Kind.TYPE_UINT32}
_MAP = "map"
"""From string to string."""


class Field(NamedTuple):
    number: int
    kind: str
    """A scalar, `map`, or a message of this file."""
    repeated: bool = False


Table = Mapping[str, Mapping[str, Field]]
"""Messages by their names, each with its fields by theirs."""

MESSAGES: Table = {
    "VersionRequest": {"version": Field(1, "string")},
    "VersionResponse": {
        "runtime_name": Field(2, "string"),
        "runtime_version": Field(3, "string"),
        "runtime_api_version": Field(4, "string"),
    },
    "ContainerMetadata": {"name": Field(1, "string"), "attempt": Field(2, "uint32")},
    "ImageSpec": {"image": Field(1, "string")},
    "ContainerStateValue": {"state": Field(1, "enum")},
    "ContainerFilter": {
        "id": Field(1, "string"),
        "state": Field(2, "ContainerStateValue"),
        "pod_sandbox_id": Field(3, "string"),
        "label_selector": Field(4, _MAP),
    },
    "ListContainersRequest": {"filter": Field(1, "ContainerFilter")},
    "Container": {
        "id": Field(1, "string"),
        "pod_sandbox_id": Field(2, "string"),
        "metadata": Field(3, "ContainerMetadata"),
        "image": Field(4, "ImageSpec"),
        "image_ref": Field(5, "string"),
        "state": Field(6, "enum"),
        "created_at": Field(7, "int64"),
        "labels": Field(8, _MAP),
    },
    "ListContainersResponse": {"containers": Field(1, "Container", repeated=True)},
    "ContainerStatusRequest": {"container_id": Field(1, "string"), "verbose": Field(2, "bool")},
    "ContainerStatus": {
        "id": Field(1, "string"),
        "metadata": Field(2, "ContainerMetadata"),
        "state": Field(3, "enum"),
        "image": Field(8, "ImageSpec"),
        "image_ref": Field(9, "string"),
        "labels": Field(12, _MAP),
    },
    "ContainerStatusResponse": {"status": Field(1, "ContainerStatus"), "info": Field(2, _MAP)},
    "Image": {
        "id": Field(1, "string"),
        "repo_tags": Field(2, "string", repeated=True),
        "repo_digests": Field(3, "string", repeated=True),
    },
    "ImageStatusRequest": {"image": Field(1, "ImageSpec")},
    "ImageStatusResponse": {"image": Field(1, "Image")},
    "ExecSyncRequest": {
        "container_id": Field(1, "string"),
        "cmd": Field(2, "string", repeated=True),
        "timeout": Field(3, "int64"),
    },
    "ExecSyncResponse": {
        "stdout": Field(1, "bytes"),
        "stderr": Field(2, "bytes"),
        "exit_code": Field(3, "enum"),
    },
}


def classes(table: Table = MESSAGES) -> dict[str, Any]:
    """A protobuf class for each message of the table, in a pool of their own: no other user of CRI can collide."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file(table))
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in table}


def _file(table: Table) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="squash/cri.proto", package=PACKAGE, syntax="proto3")
    for name, fields in table.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            _add(message, field, number, kind, repeated=repeated or kind == _MAP)
            if kind == _MAP:
                _add_entry(message, field)
    return file


def _add(message: Any, name: str, number: int, kind: str, *, repeated: bool) -> None:
    label = _Kind.LABEL_REPEATED if repeated else _Kind.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _Kind.TYPE_MESSAGE
        owner = f"{message.name}.{_entry(name)}" if kind == _MAP else kind
        field.type_name = f".{PACKAGE}.{owner}"


def _add_entry(message: Any, field: str) -> None:
    """A map is a repeated message of keys and values on the wire (Protocol Buffers language guide, maps)."""
    entry = message.nested_type.add(name=_entry(field))
    entry.options.map_entry = True
    _add(entry, "key", 1, "string", repeated=False)
    _add(entry, "value", 2, "string", repeated=False)


def _entry(field: str) -> str:
    return "".join(part.capitalize() for part in field.split("_")) + "Entry"
