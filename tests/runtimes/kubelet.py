"""What a kubelet asks of a runtime: pods and containers made through CRI itself."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from agent.containers import members
from squash import procfs
from squash.messages import Field, classes
from squash.runtimes.cri import CONTAINER, NAMESPACE, POD
from squash.runtimes.cri_protocol import PACKAGE, SERVICE
from tests.eventually import eventually

OF_CONTAINER = 1
"""NamespaceMode: each container its own pid namespace, which is what a kubelet asks for."""
_TABLE = {
    "Empty": {},
    "VersionRequest": {"version": Field(1, "string")},
    "VersionResponse": {"runtime_name": Field(2, "string"), "runtime_version": Field(3, "string")},
    "KeyValue": {"key": Field(1, "string"), "value": Field(2, "string")},
    "Int64Value": {"value": Field(1, "int64")},
    "NamespaceOption": {"network": Field(1, "enum"), "pid": Field(2, "enum"), "ipc": Field(3, "enum")},
    "PodSandboxMetadata": {
        "name": Field(1, "string"),
        "uid": Field(2, "string"),
        "namespace": Field(3, "string"),
        "attempt": Field(4, "uint32"),
    },
    "LinuxSandboxSecurityContext": {"namespace_options": Field(1, "NamespaceOption")},
    "LinuxPodSandboxConfig": {
        "cgroup_parent": Field(1, "string"),
        "security_context": Field(2, "LinuxSandboxSecurityContext"),
    },
    "PodSandboxConfig": {
        "metadata": Field(1, "PodSandboxMetadata"),
        "hostname": Field(2, "string"),
        "log_directory": Field(3, "string"),
        "labels": Field(6, "map"),
        "linux": Field(8, "LinuxPodSandboxConfig"),
    },
    "RunPodSandboxRequest": {"config": Field(1, "PodSandboxConfig")},
    "RunPodSandboxResponse": {"pod_sandbox_id": Field(1, "string")},
    "PodSandboxIdRequest": {"pod_sandbox_id": Field(1, "string")},
    "PodSandboxStatusRequest": {"pod_sandbox_id": Field(1, "string")},
    "PodSandboxNetworkStatus": {"ip": Field(1, "string")},
    "PodSandboxStatus": {"id": Field(1, "string"), "network": Field(5, "PodSandboxNetworkStatus")},
    "PodSandboxStatusResponse": {"status": Field(1, "PodSandboxStatus")},
    "ContainerMetadata": {"name": Field(1, "string"), "attempt": Field(2, "uint32")},
    "ImageSpec": {"image": Field(1, "string")},
    "Mount": {
        "container_path": Field(1, "string"),
        "host_path": Field(2, "string"),
        "readonly": Field(3, "bool"),
    },
    "Capability": {
        "add_capabilities": Field(1, "string", repeated=True),
        "drop_capabilities": Field(2, "string", repeated=True),
    },
    "LinuxContainerResources": {"memory_limit_in_bytes": Field(4, "int64"), "oom_score_adj": Field(5, "int64")},
    "LinuxContainerSecurityContext": {
        "capabilities": Field(1, "Capability"),
        "namespace_options": Field(3, "NamespaceOption"),
        "run_as_user": Field(5, "Int64Value"),
        "readonly_rootfs": Field(7, "bool"),
        "no_new_privs": Field(11, "bool"),
    },
    "LinuxContainerConfig": {
        "resources": Field(1, "LinuxContainerResources"),
        "security_context": Field(2, "LinuxContainerSecurityContext"),
    },
    "ContainerConfig": {
        "metadata": Field(1, "ContainerMetadata"),
        "image": Field(2, "ImageSpec"),
        "command": Field(3, "string", repeated=True),
        "args": Field(4, "string", repeated=True),
        "envs": Field(6, "KeyValue", repeated=True),
        "mounts": Field(7, "Mount", repeated=True),
        "labels": Field(9, "map"),
        "log_path": Field(11, "string"),
        "linux": Field(15, "LinuxContainerConfig"),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": Field(1, "string"),
        "config": Field(2, "ContainerConfig"),
        "sandbox_config": Field(3, "PodSandboxConfig"),
    },
    "CreateContainerResponse": {"container_id": Field(1, "string")},
    "ContainerIdRequest": {"container_id": Field(1, "string")},
}
_ANSWERS = {"Version", "RunPodSandbox", "PodSandboxStatus", "CreateContainer"}
_ASKED = {
    "StopPodSandbox": "PodSandboxIdRequest",
    "RemovePodSandbox": "PodSandboxIdRequest",
    "StartContainer": "ContainerIdRequest",
    "RemoveContainer": "ContainerIdRequest",
}
_CLASSES = classes(PACKAGE, _TABLE)


class Limits(NamedTuple):
    """How a container is confined; the defaults are a kubelet's for a pod that asks for nothing."""

    uid: int = 0
    hardened: bool = False
    """All capabilities dropped, no new privileges, the root file system read-only."""
    memory: int = 0
    """Bytes; 0: no limit."""


class Kubelet:
    """Pods of one runtime. What is left of them is gone after `close`."""

    def __init__(self, socket: Path, logs: Path) -> None:
        self._logs = logs
        self._pods: list[str] = []
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=(("grpc.default_authority", "localhost"),))

    def call(self, name: str, *, timeout: float = 30.0, **fields: Any) -> Any:
        request = _CLASSES[_ASKED.get(name, f"{name}Request")]
        response = _CLASSES[f"{name}Response" if name in _ANSWERS else "Empty"]
        ask = self._channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return ask(request(**fields), timeout=timeout, wait_for_ready=True)

    def pod(self, name: str, namespace: str) -> "Pod":
        config = {
            "metadata": {"name": name, "uid": f"uid-{name}", "namespace": namespace},
            "hostname": name,
            "log_directory": str(self._logs),
            "labels": {POD: name, NAMESPACE: namespace},
            "linux": {"security_context": {"namespace_options": {"pid": OF_CONTAINER}}},
        }
        ident = self.call("RunPodSandbox", config=config).pod_sandbox_id
        self._pods.append(ident)
        return Pod(self, ident, config)

    def remove(self, ident: str) -> None:
        """A pod and its containers. One that is gone is no matter."""
        for step in ("StopPodSandbox", "RemovePodSandbox"):
            with contextlib.suppress(grpc.RpcError):
                self.call(step, pod_sandbox_id=ident)
        if ident in self._pods:
            self._pods.remove(ident)

    def close(self) -> None:
        for ident in self._pods[::-1]:
            self.remove(ident)
        self._channel.close()


class Pod:
    def __init__(self, kubelet: Kubelet, ident: str, config: Mapping[str, Any]) -> None:
        self._kubelet = kubelet
        self.id = ident
        self._config = config
        self._attempts = 0

    @property
    def ip(self) -> str:
        address: str = self._kubelet.call("PodSandboxStatus", pod_sandbox_id=self.id).status.network.ip
        return address

    def remove(self) -> None:
        self._kubelet.remove(self.id)

    def run(
        self,
        name: str,
        image: str,
        command: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        mounts: Mapping[str, Path] | None = None,
        limits: Limits = Limits(),  # noqa: B008 - immutable
    ) -> str:
        """Starts a container; returns its id once its first process has been seen waiting for something.

        Before that it may be runc still, or have no children yet.
        """
        security: dict[str, Any] = {
            "namespace_options": {"pid": OF_CONTAINER},
            "run_as_user": {"value": limits.uid},
            "readonly_rootfs": limits.hardened,
            "no_new_privs": limits.hardened,
        }
        if limits.hardened:
            security["capabilities"] = {"drop_capabilities": ["ALL"]}
        labels = {**self._config["labels"], CONTAINER: name}
        self._attempts += 1
        config = {
            "metadata": {"name": name, "attempt": self._attempts},
            "image": {"image": image},
            "command": list(command),
            "envs": [{"key": key, "value": value} for key, value in (environment or {}).items()],
            "mounts": [
                {"container_path": inside, "host_path": str(path), "readonly": True}
                for inside, path in (mounts or {}).items()
            ],
            "labels": labels,
            "log_path": f"{name}-{self._attempts}.log",
            "linux": {"resources": {"memory_limit_in_bytes": limits.memory}, "security_context": security},
        }
        made = self._kubelet.call("CreateContainer", pod_sandbox_id=self.id, config=config, sandbox_config=self._config)
        ident: str = made.container_id
        self._kubelet.call("StartContainer", container_id=ident)
        assert eventually(lambda: _started(ident)), f"container {name} of {image} never came up"
        return ident


def _started(ident: str) -> bool:
    """True also when it has ended again."""
    found = members.of_container(ident)
    stat = procfs.stat(found[0].pid) if found else None
    return stat is None or (stat.state == "S" and not stat.comm.startswith("runc"))
