"""Opens a world, attaches a debugger to its service, tells where a client may connect, and waits to be killed."""

import json
import signal
import sys

from demo.shop import STOCK_PROGRAM
from demo.world import World
from squash.calls import create_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment

if __name__ == "__main__":
    with World("owned") as world:
        world.coordinator()
        world.agent()
        service = world.service("stock", "demo/stock", [str(STOCK_PROGRAM)])
        with world.client() as client:
            spec = AttachmentSpec(attachment={"pod": "stock", "namespace": world.namespace})
            made = client.send(create_attachment(DebugAttachment(spec=spec)))
            attached = client.send(get_attachment(made.name, wait=30))
        told = {"service": service.pid, "url": service.where, "address": attached.status.debug_server_address}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        signal.pause()
