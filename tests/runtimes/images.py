"""Images made from files alone, in the form of `docker save`, so that no registry is needed."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_LEFT_OUT = (
    *("dev", "proc", "var/cache/apt", "var/lib/apt/lists"),
    *(f"usr/share/{name}" for name in ("doc", "locale", "man", "zoneinfo")),
)
"""More than half of a small Debian."""


class Image(NamedTuple):
    name: str
    """With a tag."""
    layers: Sequence[Path]
    """The lowest first."""
    entrypoint: Sequence[str]


def layer(path: Path, files: Mapping[str, Path], directories: Iterable[str] = ()) -> Path:
    """A layer at `path` with each file, executable, at its name inside; `directories` are everybody's, like /tmp."""
    with tarfile.open(path, "w") as archive:
        for directory in directories:
            info = tarfile.TarInfo(directory.removeprefix("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(info)
        for inside, source in files.items():
            _add(archive, inside.removeprefix("/"), source.read_bytes())
    return path


def layer_of_tree(path: Path, tree: Path) -> Path:
    """A layer at `path` that is a whole system, with owners and modes as they are, but for what no service reads."""
    left_out = [f"--exclude=./{name}/*" for name in _LEFT_OUT]
    subprocess.run(["tar", "-C", tree, "-cf", path, *left_out, "."], check=True)
    return path


def write(path: Path, name: str, layers: Sequence[Path], entrypoint: Sequence[str]) -> Path:
    """An archive at `path` with the image `name` (with a tag) of these layers, the lowest first."""
    return write_all(path, [Image(name, layers, entrypoint)])


def write_all(path: Path, images: Iterable[Image]) -> Path:
    """An archive at `path` with several images; what layers they share is in it once."""
    manifest = []
    digests: dict[Path, str] = {}
    with tarfile.open(path, "w") as archive:
        for number, image in enumerate(images):
            for source in image.layers:
                if source not in digests:
                    digests[source] = _digest(source)
                    archive.add(source, f"{digests[source]}.tar")
            config = f"config-{number}.json"
            _add(archive, config, _config(image, [digests[source] for source in image.layers]))
            names = [f"{digests[source]}.tar" for source in image.layers]
            manifest.append({"Config": config, "RepoTags": [image.name], "Layers": names})
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _config(image: Image, digests: Sequence[str]) -> bytes:
    about = {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": list(image.entrypoint),
            "WorkingDir": "/",
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
    }
    return json.dumps(about).encode()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o755
    archive.addfile(info, io.BytesIO(content))
