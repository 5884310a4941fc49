"""A containerd of the tests' own: root, state, socket and network configuration are all in one directory."""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests.runtimes import images
from tests.runtimes.kubelet import Kubelet

PLUGINS = Path("/usr/lib/cni")
"""Where Debian's containernetworking-plugins are."""
_PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
_PAUSE_IMAGE = "squash.test/pause:1"
_CONFIG = """
version = 2
root = "{base}/root"
state = "{base}/state"
oom_score = 0
[grpc]
  address = "{base}/containerd.sock"
[ttrpc]
  address = "{base}/ttrpc.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "{base}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{base}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
"""
START = 30.0


class Containerd:
    """A runtime that runs; `kubelet` makes pods in it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.socket = base / "containerd.sock"
        self.kubelet = Kubelet(self.socket, base / "logs")

    def load(self, archive: Path) -> None:
        """Takes an image of the form of `docker save`."""
        address = ["--address", str(self.socket), "--namespace", "k8s.io"]
        subprocess.run(["ctr", *address, "images", "import", str(archive)], check=True, capture_output=True)


@contextlib.contextmanager
def running(base: Path) -> Iterator[Containerd]:
    """A containerd below `base`, an empty directory with a short path; nothing of it is left afterwards."""
    _configure(base)
    log = (base / "log").open("wb")
    daemon = subprocess.Popen(["containerd", "--config", base / "config.toml"], stdout=log, stderr=log)
    runtime = Containerd(base)
    try:
        _wait_until_it_answers(runtime, daemon)
        runtime.load(_pause(base))
        yield runtime
    finally:
        runtime.kubelet.close()
        daemon.terminate()
        daemon.wait(START)
        log.close()
        _remove(base)


def _configure(base: Path) -> None:
    for name in ("root", "state", "cni", "logs"):
        (base / name).mkdir()
    snapshotter = "overlayfs" if _overlays(base) else "native"
    config = _CONFIG.format(base=base, pause=_PAUSE_IMAGE, plugins=PLUGINS, snapshotter=snapshotter)
    (base / "config.toml").write_text(config)
    # A network of its own, so that several at once do not meet.
    subnet = f"10.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}.0/24"
    ipam = {"type": "host-local", "dataDir": str(base / "ipam"), "ranges": [[{"subnet": subnet}]]}
    bridge = {"type": "bridge", "bridge": f"sq{secrets.token_hex(4)}", "isGateway": True, "ipam": ipam}
    network = {"cniVersion": "0.4.0", "name": base.name, "plugins": [bridge]}
    (base / "cni/10-test.conflist").write_text(json.dumps(network))
    (base / "bridge").write_text(str(bridge["bridge"]))


def _overlays(base: Path) -> bool:
    """Whether the kernel lays overlays over the directory's file system; on an overlay it does not."""
    kind = subprocess.run(["stat", "-fc", "%T", base], check=True, capture_output=True, text=True).stdout.strip()
    return kind != "overlayfs"


def _wait_until_it_answers(runtime: Containerd, daemon: subprocess.Popen[bytes]) -> None:
    try:
        runtime.kubelet.call("Version", timeout=START)
    except grpc.RpcError as error:
        words = (runtime.base / "log").read_text()[-2000:]
        raise AssertionError(f"containerd (status {daemon.poll()}) does not answer: {error}\n{words}") from error


def _pause(base: Path) -> Path:
    """What keeps a pod's namespaces: a program that does nothing."""
    source, program, archive = base / "pause.c", base / "pause", base / "pause.tar"
    source.write_text(_PAUSE)
    subprocess.run(["gcc", "-static", "-Os", "-o", program, source], check=True)
    return images.write(archive, _PAUSE_IMAGE, [images.layer(base / "layer.tar", {"/pause": program})], ["/pause"])


def _remove(base: Path) -> None:
    """Mounts, the bridge, and the directory. A mount is busy as long as the last shim still ends."""
    deadline = time.monotonic() + START
    while mounts := [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {base}/" in line]:
        for mount in reversed(mounts):
            subprocess.run(["umount", mount], check=False, capture_output=True)
        assert time.monotonic() < deadline, f"still mounted: {mounts}"
    bridge = (base / "bridge").read_text()
    subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
    shutil.rmtree(base)
    assert not base.exists(), os.listdir(base)
