"""Protobuf messages without generated code: classes made from tables of the fields that matter, when they are needed.

Protobuf skips the fields that are not listed.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Kind = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"string": _Kind.TYPE_STRING, "bytes": _Kind.TYPE_BYTES, "bool": _Kind.TYPE_BOOL, "int64": _Kind.TYPE_INT64}
# An enum is a number on the wire, and unknown values of it stay what they are.
_SCALARS |= {"enum": _Kind.TYPE_INT32, "uint32": _Kind.TYPE_UINT32}
_MAP = "map"
"""From string to string."""


class Field(NamedTuple):
    number: int
    kind: str
    """A scalar, `map`, or a message of the same table."""
    repeated: bool = False


Table = Mapping[str, Mapping[str, Field]]
"""Messages by their names, each with its fields by theirs."""


def classes(package: str, table: Table) -> dict[str, Any]:
    """A protobuf class for each message of the table, in a pool of their own: no other user of the package collides."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_File(package).describe(table))
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in table}


class _File:
    def __init__(self, package: str) -> None:
        self._package = package

    def describe(self, table: Table) -> descriptor_pb2.FileDescriptorProto:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"squash/{self._package}.proto", package=self._package, syntax="proto3"
        )
        for name, fields in table.items():
            message = file.message_type.add(name=name)
            for field, (number, kind, repeated) in fields.items():
                self._add(message, field, number, kind, repeated=repeated or kind == _MAP)
                if kind == _MAP:
                    self._add_entry(message, field)
        return file

    def _add(self, message: Any, name: str, number: int, kind: str, *, repeated: bool) -> None:
        label = _Kind.LABEL_REPEATED if repeated else _Kind.LABEL_OPTIONAL
        field = message.field.add(name=name, number=number, label=label)
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type = _Kind.TYPE_MESSAGE
            owner = f"{message.name}.{_entry(name)}" if kind == _MAP else kind
            field.type_name = f".{self._package}.{owner}"

    def _add_entry(self, message: Any, field: str) -> None:
        """A map is a repeated message of keys and values on the wire (Protocol Buffers language guide, maps)."""
        entry = message.nested_type.add(name=_entry(field))
        entry.options.map_entry = True
        self._add(entry, "key", 1, "string", repeated=False)
        self._add(entry, "value", 2, "string", repeated=False)


def _entry(field: str) -> str:
    return "".join(part.capitalize() for part in field.split("_")) + "Entry"
