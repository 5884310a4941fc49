"""Images of the five services: on a small Debian, and bare, with nothing but what the program itself needs.

What is bare is `scratch` where the language makes one static program; else the interpreter or runtime and the libraries
that it loads, as distroless images have it: no shell, nobody's tools, an empty /tmp.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.drivers import Spot
from tests.drivers.languages import CPP, GO, JAVA, NODE, PYTHON, Language, compile_cpp, compile_go, compile_java
from tests.runtimes import images
from tests.runtimes.images import Image

PORT = 8080
LISTEN = f"0.0.0.0:{PORT}"
_MODULES = "java.base,jdk.httpserver,jdk.jdwp.agent"
_NODE_PARTS = Path("/usr/share/nodejs")
"""Where Debian's Node keeps parts of itself."""
Files = Mapping[str, Path]


class Ware(NamedTuple):
    """A service in its two images."""

    language: Language
    debian: str
    bare: str
    command: tuple[str, ...]
    """How it is started in the first; a bare image starts it by itself."""
    spot: Spot
    bare_spot: Spot


class Workshop:
    """Makes the images, all in one archive."""

    def __init__(self, base: Path, directory: Path) -> None:
        self._base = base
        self._directory = directory
        self._base_layer = images.layer_of_tree(directory / "base.tar", base)
        self._made: list[Image] = []

    def archive(self) -> Path:
        return images.write_all(self._directory / "wares.tar", self._made)

    def make(self, language: str) -> Ware:
        made: Ware = getattr(self, f"_{language}")()
        return made

    def _python(self) -> Ware:
        app = {"/app/service.py": PYTHON.source}
        command = ("/usr/bin/python3", app_name(app), LISTEN)
        return self._ware(PYTHON, command, app, _python(self._base), PYTHON.spot(app_name(app)))

    def _cpp(self) -> Ware:
        program = compile_cpp(self._directory / "cpp")
        static = compile_cpp(self._directory / "cpp-static", "-static")
        spots = CPP.spot(CPP.source.name, program), CPP.spot(CPP.source.name, static)
        self._add(CPP, "bare", [self._layer("cpp-bare", {"/app/service": static})], ("/app/service", LISTEN))
        return self._on_debian(CPP, ("/app/service", LISTEN), {"/app/service": program}, *spots)

    def _go(self) -> Ware:
        app = {"/app/service": compile_go(self._directory / "go")}
        self._add(GO, "bare", [self._layer("go-bare", app)], ("/app/service", LISTEN))
        return self._on_debian(GO, ("/app/service", LISTEN), app, GO.spot())

    def _node(self) -> Ware:
        found = shutil.which("node")
        assert found, "node is not installed"
        program = Path(found).resolve()
        runtime = {"/usr/bin/node": program, **_libraries([program])}
        if "libnode" in " ".join(runtime) and _NODE_PARTS.exists():
            runtime |= _tree(_NODE_PARTS, str(_NODE_PARTS))
        app = {"/app/service.js": NODE.source}
        command = ("/usr/bin/node", app_name(app), LISTEN)
        return self._ware(NODE, command, {**app, **runtime}, runtime, NODE.spot(app_name(app)))

    def _java(self) -> Ware:
        classes = compile_java(self._directory)
        runtime = _java(self._directory / "jre")
        app = {"/app/Service.class": classes / "Service.class"}
        command = ("/opt/jre/bin/java", *JAVA_SMALL, "-cp", "/app", "Service", LISTEN)
        return self._ware(JAVA, command, {**app, **runtime}, runtime, JAVA.spot())

    def _ware(self, language: Language, command: tuple[str, ...], app: Files, runtime: Files, spot: Spot) -> Ware:
        bare = images.layer(self._directory / f"{language.name}-bare.tar", {**app, **runtime}, ["/tmp"])  # noqa: S108
        self._add(language, "bare", [bare], command)
        return self._on_debian(language, command, app, spot)

    def _on_debian(
        self, language: Language, command: tuple[str, ...], app: Files, spot: Spot, bare_spot: Spot | None = None
    ) -> Ware:
        self._add(language, "debian", [self._base_layer, self._layer(language.name, app)], command)
        return Ware(language, _name(language, "debian"), _name(language, "bare"), command, spot, bare_spot or spot)

    def _add(self, language: Language, kind: str, layers: list[Path], command: tuple[str, ...]) -> None:
        self._made.append(Image(_name(language, kind), layers, command))

    def _layer(self, name: str, files: Files) -> Path:
        return images.layer(self._directory / f"{name}.tar", files)


JAVA_SMALL = ("-XX:+UseSerialGC", "-Xmx16m", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=8m")
"""What lets a JVM live in a container of 64 MiB."""


def app_name(files: Files) -> str:
    return next(iter(files))


def _name(language: Language, kind: str) -> str:
    return f"squash.test/{language.name}-{kind}:1"


def _python(base: Path) -> Files:
    """The interpreter of the base system, its library, and what these load."""
    version = Path(os.readlink(base / "usr/bin/python3")).name
    found = {f"/usr/bin/{name}": base / "usr/bin" / version for name in ("python3", version)}
    library = _tree(base / "usr/lib" / version, f"/usr/lib/{version}")
    modules = [Path(name) for name in library if name.endswith(".so")]
    return {**found, **library, **_libraries([Path("/usr/bin") / version, *modules], base)}


def _java(directory: Path) -> Files:
    """A runtime with the modules of the service, in /opt/jre, and what it loads."""
    flags = ["--strip-debug", "--no-man-pages", "--no-header-files", "--add-modules", _MODULES]
    subprocess.run(["jlink", *flags, "--output", directory], check=True, capture_output=True)
    programs = [directory / "bin/java", *directory.rglob("*.so")]
    return {**_tree(directory, "/opt/jre"), **_libraries(programs)}


def _tree(directory: Path, inside: str) -> dict[str, Path]:
    return {
        f"{inside}/{file.relative_to(directory)}": file
        for file in directory.rglob("*")
        if file.is_file() and "test" not in file.relative_to(directory).parts
    }


def _libraries(programs: Iterable[Path], root: Path | None = None) -> dict[str, Path]:
    """Every library that these load, at the names that they load them by; `root`: as seen from inside it."""
    found: dict[str, Path] = {}
    inside = ["chroot", str(root)] if root else []
    done = subprocess.run([*inside, "ldd", *map(str, programs)], check=False, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        name = next((word for word in line.split() if word.startswith(("/lib", "/usr")) and word[-1] != ":"), "")
        if name:
            found[name] = (root / name.removeprefix("/") if root else Path(name)).resolve()
    return found
