"""Images made from files alone, in the form of `docker save`, so that no registry is needed."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def layer(path: Path, files: Mapping[str, Path]) -> Path:
    """A layer at `path` that puts each file, executable, at its name inside."""
    with tarfile.open(path, "w") as archive:
        for inside, source in files.items():
            _add(archive, inside.removeprefix("/"), source.read_bytes())
    return path


def layer_of_tree(path: Path, tree: Path) -> Path:
    """A layer at `path` that is a whole directory, with owners and modes as they are."""
    subprocess.run(["tar", "-C", tree, "-cf", path, "--exclude=./dev/*", "--exclude=./proc/*", "."], check=True)
    return path


def write(path: Path, name: str, layers: Sequence[Path], entrypoint: Sequence[str]) -> Path:
    """An archive at `path` with the image `name` (with a tag) of these layers, the lowest first."""
    digests = [f"sha256:{_digest(one)}" for one in layers]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": list(entrypoint),
                "WorkingDir": "/",
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "rootfs": {"type": "layers", "diff_ids": digests},
        }
    ).encode()
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        for member, source in zip(names, layers, strict=True):
            archive.add(source, member)
        _add(archive, "config.json", config)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o755
    archive.addfile(info, io.BytesIO(content))
