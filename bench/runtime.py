"""A CRI runtime of the benchmark's own: tells of containers whose first processes are real, and does nothing else.

`python -m bench.runtime SOCKET POD PID`: of its containers one, of this pod, has that first process.
"""

import asyncio
import json
import signal
import sys
from typing import Any

import grpc
from grpc import aio

from squash.messages import classes
from squash.runtimes.cri import CONTAINER, NAMESPACE, POD
from squash.runtimes.cri_protocol import MESSAGES, PACKAGE, RUNNING, SERVICE

CONTAINERS = 60
"""On a node that is well filled."""
_PADDING = {"runtimeSpec": {"mounts": [{"destination": f"/mounts/{n}", "options": ["rbind", "ro"]} for n in range(80)]}}
"""A real runtime tells the whole specification of the container along with its pid: some 8 KB."""


class Runtime:
    def __init__(self, pod: str, pid: int) -> None:
        self._messages = classes(PACKAGE, MESSAGES)
        self._info = json.dumps({"pid": pid, **_PADDING})
        self._all = [self._container(f"pod-{n}", f"{n:064x}") for n in range(1, CONTAINERS)]
        self._all.append(self._container(pod, ident(pod)))

    def _container(self, pod: str, ident: str) -> Any:
        labels = {POD: pod, NAMESPACE: "default", CONTAINER: "app"}
        image = {"image": f"registry.example/{pod}:1"}
        return self._messages["Container"](id=ident, image=image, state=RUNNING, labels=labels, image_ref=ident)

    async def list_containers(self, request: Any, context: Any) -> Any:
        wanted = dict(request.filter.label_selector).items()
        found = [each for each in self._all if wanted <= dict(each.labels).items()]
        return self._messages["ListContainersResponse"](containers=found)

    async def container_status(self, request: Any, context: Any) -> Any:
        status = {"id": request.container_id, "state": RUNNING}
        return self._messages["ContainerStatusResponse"](status=status, info={"info": self._info})

    def handler(self) -> grpc.GenericRpcHandler:
        methods = {"ListContainers": self.list_containers, "ContainerStatus": self.container_status}
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    method,
                    request_deserializer=self._messages[f"{name}Request"].FromString,
                    response_serializer=self._messages[f"{name}Response"].SerializeToString,
                )
                for name, method in methods.items()
            },
        )


def ident(pod: str) -> str:
    """The id of the pod's container."""
    return pod.encode().hex().rjust(64, "0")


async def serve(socket: str, pod: str, pid: int) -> None:
    server = aio.server()
    server.add_generic_rpc_handlers((Runtime(pod, pid).handler(),))
    server.add_insecure_port(f"unix://{socket}")
    await server.start()
    sys.stdout.write(f"runtime ready on {socket}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
