"""The Container Runtime Interface `runtime.v1`: the part of it that tells containers and their processes.

Field numbers are those of the Kubernetes project's cri-api.
"""

from squash.messages import Field, Table

PACKAGE = "runtime.v1"
SERVICE = f"{PACKAGE}.RuntimeService"
IMAGES = f"{PACKAGE}.ImageService"
RUNNING = 1
"""CONTAINER_RUNNING of the enum ContainerState."""

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
        "label_selector": Field(4, "map"),
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
        "labels": Field(8, "map"),
    },
    "ListContainersResponse": {"containers": Field(1, "Container", repeated=True)},
    "ContainerStatusRequest": {"container_id": Field(1, "string"), "verbose": Field(2, "bool")},
    "ContainerStatus": {
        "id": Field(1, "string"),
        "metadata": Field(2, "ContainerMetadata"),
        "state": Field(3, "enum"),
        "image": Field(8, "ImageSpec"),
        "image_ref": Field(9, "string"),
        "labels": Field(12, "map"),
    },
    "ContainerStatusResponse": {"status": Field(1, "ContainerStatus"), "info": Field(2, "map")},
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
