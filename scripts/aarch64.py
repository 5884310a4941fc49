"""`python -m scripts.aarch64 DIR`: an aarch64 Linux to be emulated, of Debian's packages and Python's.

DIR gets `kernel` and `system.cpio`, an archive that the kernel unpacks into memory (initramfs-buffer-format of the
kernel's documentation). Packages come from where this machine's apt has its own from, so this takes a Debian; nothing
is installed, and no package's script is run.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

_PACKAGES = ("bash", "binutils", "coreutils", "gdb", "mount", "python3")
_TESTING = {"iniconfig", "packaging", "pluggy", "psutil", "pygments", "pytest", "pytest-asyncio", "pytest-timeout"}
_LEFT_OUT = re.compile(
    r"usr/share/(?!gdb)|usr/lib/(systemd|udev|dpkg|apt)|perl|gconv/|usr/(s?bin|lib)/(apt|dpkg|systemd)"
    r"|usr/bin/aarch64-linux-gnu-(dwp|gold|ld\.gold|gp-|gprof)|/python3\.11/(test|lib2to3|ensurepip|pydoc_data)/"
    r"|dist-packages/(pip|setuptools|_distutils_hack|mypy)|distutils-precedence|\.(pdb|dll|exe|pyx|c|cpp)$"
)
"""Every megabyte takes a second to be unpacked by an emulated processor."""
_WHEELS = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_28_aarch64")
_PYTHON = "3.11"
_SITE = "usr/lib/python3/dist-packages"


def make(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    root, packages = directory / "root", directory / "packages"
    for folder in ("usr/bin", "usr/sbin", "usr/lib", "proc", "sys", "dev", "tmp"):
        (root / folder).mkdir(parents=True)
    for folder in ("bin", "sbin", "lib"):
        (root / folder).symlink_to(f"usr/{folder}")
    _say("Debian packages")
    for package in _debian(packages):
        _unpack(package, root)
    (root / "usr/bin/sh").symlink_to("bash")
    _say("Python packages")
    _python(directory, root / _SITE)
    _say("packing")
    (kernel,) = packages.glob("kernel/boot/vmlinuz-*")
    shutil.copy(kernel, directory / "kernel")
    with (directory / "system.cpio").open("wb") as file:
        pack(file, ((name, path) for name, path in tree(root, "") if not _LEFT_OUT.search(name)))
    shutil.rmtree(root)
    shutil.rmtree(packages)


def _say(what: str) -> None:
    sys.stderr.write(f"aarch64: {what}\n")


def _debian(directory: Path) -> list[Path]:
    """The packages and what they depend on, as files; the kernel is unpacked beside them."""
    here = directory.absolute()
    for folder in ("lists/partial", "archives/partial", "kernel"):
        (here / folder).mkdir(parents=True)
    (here / "status").touch()
    (here / "apt.conf").write_text(
        'APT::Architecture "arm64";\nAPT::Architectures { "arm64"; };\nAPT::Install-Recommends "false";\n'
        f'APT::Sandbox::User "root";\nDir::State "{here}";\nDir::State::status "{here}/status";\nDir::Cache "{here}";\n'
    )
    environment = os.environ | {"APT_CONFIG": str(here / "apt.conf")}

    def apt(*argv: str) -> str:
        said = subprocess.run(argv, env=environment, cwd=here, check=True, stdout=subprocess.PIPE, text=True)
        return said.stdout

    apt("apt-get", "-qq", "update")
    apt("apt-get", "-qq", "-y", "--download-only", "install", *_PACKAGES)
    image = re.findall(r"Depends: (linux-image-\S+)", apt("apt-cache", "depends", "linux-image-arm64"))
    apt("apt-get", "-qq", "download", *image)
    (kernel,) = here.glob("linux-image-*.deb")
    _unpack(kernel, here / "kernel", "./boot")
    return sorted((here / "archives").glob("*.deb"))


def _unpack(package: Path, root: Path, *only: str) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as archive:
        argv: list[str | Path] = ["tar", "-C", root, "-x", "--keep-directory-symlink", "-f", "-", *only]
        subprocess.run(argv, stdin=archive.stdout, check=True)


def _python(directory: Path, site: Path) -> None:
    """What the programs need, and what runs the tests, as `requirements/` pins it."""
    blocks = re.split(r"\n(?=\w)", Path("requirements/dev.txt").read_text())
    chosen = directory / "testing.txt"
    chosen.write_text("\n".join(block for block in blocks if block.split("==")[0] in _TESTING) + "\n")
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    argv += ["--no-deps", "--only-binary=:all:", f"--python-version={_PYTHON}", "--implementation=cp"]
    argv += [f"--platform={name}" for name in _WHEELS]
    argv += [f"--target={site}", "-r", "requirements/runtime.txt", "-r", str(chosen)]
    subprocess.run(argv, check=True)
    chosen.unlink()


def tree(root: Path, name: str) -> Iterator[tuple[str, Path]]:
    """All files below a folder of `root`, a folder before what is in it, by their paths from `root` on."""
    for path in sorted((root / name).iterdir()):
        inside = f"{name}/{path.name}".lstrip("/")
        yield inside, path
        if path.is_dir() and not path.is_symlink():
            yield from tree(root, inside)


def pack(file: BinaryIO, entries: Iterable[tuple[str, Path]]) -> None:
    """An archive of files by their names in it; several, one after the other, are one."""
    for name, path in entries:
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            _entry(file, name, found.st_mode, os.fsencode(path.readlink()))
        elif stat.S_ISREG(found.st_mode):
            _entry(file, name, found.st_mode, path.read_bytes())
        elif stat.S_ISDIR(found.st_mode):
            _entry(file, name, found.st_mode, b"")
    _entry(file, "TRAILER!!!", 0, b"")
    file.write(bytes(-file.tell() % 512))


def _entry(file: BinaryIO, name: str, mode: int, data: bytes) -> None:
    named = name.encode() + b"\0"
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(named), 0)
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + named
    file.write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))


if __name__ == "__main__":
    make(Path(sys.argv[1]))
