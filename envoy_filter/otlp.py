"""What Envoy's access logger for OpenTelemetry sends: OTLP over HTTP, of which the attributes of each record count.

Field numbers are those of the OpenTelemetry project's opentelemetry-proto.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.message import DecodeError

from squash.messages import Field, Table, classes

_PACKAGE = "opentelemetry.proto"
_MESSAGES: Table = {
    # Bytes on the wire, as text is: what is no UTF-8 must not spoil the rest.
    "AnyValue": {"string_value": Field(1, "bytes")},
    "KeyValue": {"key": Field(1, "bytes"), "value": Field(2, "AnyValue")},
    "LogRecord": {"attributes": Field(6, "KeyValue", repeated=True)},
    "ScopeLogs": {"log_records": Field(2, "LogRecord", repeated=True)},
    "ResourceLogs": {"scope_logs": Field(2, "ScopeLogs", repeated=True)},
    "ExportLogsServiceRequest": {"resource_logs": Field(1, "ResourceLogs", repeated=True)},
}
ABSENT = b"-"
"""What Envoy's access log says of what is not there."""

Record = list[tuple[bytes, bytes]]


def records(body: bytes) -> Iterator[Record]:
    """Names and values of each record's attributes that are there. Raises ValueError when it is no such message."""
    try:
        message = _request().FromString(body)
    except DecodeError as error:
        raise ValueError(f"no ExportLogsServiceRequest: {error}") from error
    for resource in message.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                pairs = ((each.key, each.value.string_value) for each in record.attributes)
                yield [(key, value) for key, value in pairs if value != ABSENT]


@cache
def _request() -> Any:
    return classes(_PACKAGE, _MESSAGES)["ExportLogsServiceRequest"]
