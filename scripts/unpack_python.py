"""`python -m scripts.unpack_python FROM TO`: an interpreter out of the Go module that carries it, file by file."""

import gzip
import json
import sys
from pathlib import Path


def unpack(source: Path, target: Path) -> None:
    """`files.json` of the module lists names, rights and symbolic links; large files are packed by gzip."""
    for entry in json.loads((source / "files.json").read_text())["files"]:
        place, plain = target / entry["name"], source / entry["name"]
        place.parent.mkdir(parents=True, exist_ok=True)
        packed = plain.with_name(plain.name + ".gz")
        if "symlink" in entry:
            place.symlink_to(entry["symlink"])
        elif plain.is_dir():
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(gzip.decompress(packed.read_bytes()) if packed.exists() else plain.read_bytes())
            place.chmod(entry["perm"] & 0o777)


if __name__ == "__main__":
    unpack(Path(sys.argv[1]), Path(sys.argv[2]))
