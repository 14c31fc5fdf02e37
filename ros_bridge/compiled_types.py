"""Message types of one's own on native ROS from wheels, without colcon: generated, compiled, and put into the cache.

    prefix = compile_types(own_types.FOLDER)
    RosbridgeServer(prefixes=[prefix])    # knows them, as do the nodes in its `node_environment()`

The wheels bring ROS's generators and headers; a C and C++ compiler and Python's headers must be there. On a robot with
a ROS installation use colcon.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from mcsd_agent.errors import UserError
from ros_bridge.server import available

#: What each generator is called, and where it is.
_GENERATORS = {
    "c": ("rosidl_generator_c.cli", "GenerateC"),
    "python": ("rosidl_generator_py.cli", "GeneratePython"),
    "introspection": ("rosidl_typesupport_introspection_c.cli", "GenerateIntrospectionCTypesupport"),
    "fastrtps": ("rosidl_typesupport_fastrtps_c.cli", "GenerateFastRTPSCTypesupport"),
    "typesupport": ("rosidl_typesupport_c.cli", "GenerateCTypesupport"),
}
#: Packages whose types are in every service or action without being named.
_HIDDEN = {"msg": (), "srv": ("service_msgs",), "action": ("action_msgs", "unique_identifier_msgs", "service_msgs")}


def compile_types(folder: str | Path) -> Path:
    """The prefix with the libraries and Python modules of all packages below `folder`; made once, then remembered.

    Packages may use those that are installed, not each other. Raises `UserError` where that cannot be done here.
    """
    folder = Path(folder).resolve()
    files = sorted(p for kind in _HIDDEN for p in folder.glob(f"*/{kind}/*.{kind}"))
    if not files:
        raise UserError(f"no package/msg/Name.msg, .srv or .action below {str(folder)!r}")
    usable, reason = available()
    if not usable:
        raise UserError(f"types cannot be compiled here: {reason}")
    digest = hashlib.sha256(f"{sys.prefix}{sys.version}".encode())
    for file in files:
        digest.update(f"{file.relative_to(folder)}\n".encode() + file.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mcsd-agent"
    prefix = cache / f"types-{digest.hexdigest()[:12]}"
    if not prefix.exists():
        # Built aside and moved in one step: another process may be doing the same.
        cache.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=cache))
        try:
            for package in sorted({file.parts[-3] for file in files}):
                _build(package, [file for file in files if file.parts[-3] == package], work)
            with contextlib.suppress(OSError):
                work.rename(prefix)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return prefix


def _build(package: str, files: list[Path], prefix: Path) -> None:
    share = prefix / "share" / package
    names = []
    for file in files:
        kind = file.suffix[1:]
        (share / kind).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, share / kind)
        convert = getattr(importlib.import_module(f"rosidl_adapter.{kind}"), f"convert_{kind}_to_idl")
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                convert(file.parents[1], package, Path(kind) / file.name, share / kind)
        except Exception as error:  # the adapter raises whatever its parser does
            raise UserError(f"{package}/{kind}/{file.name}: {' '.join(str(error).split())[:200]}") from None
        names += [f"{kind}/{file.name}", f"{kind}/{file.stem}.idl"]
    index = prefix / "share" / "ament_index" / "resource_index"
    for resource, text in (("packages", ""), ("rosidl_interfaces", "\n".join(names))):
        (index / resource).mkdir(parents=True, exist_ok=True)
        (index / resource / package).write_text(text)

    idls = [f"{share}:{name}" for name in names if name.endswith(".idl")]
    installed = Path(sys.prefix) / "share"
    others = sorted(str(p) for p in installed.iterdir() if any((p / kind).is_dir() for kind in _HIDDEN))
    needed = _needed(share, package, {file.suffix[1:] for file in files})
    for other in needed:
        if not (installed / other).is_dir():
            raise UserError(f"{package} uses {other}, which is not installed here; packages cannot use each other")
    sources = prefix / "src"
    logging.getLogger("rosidl_cli").setLevel(logging.ERROR)  # the wheels list every generator twice
    old = os.environ.get("AMENT_PREFIX_PATH")
    os.environ["AMENT_PREFIX_PATH"] = sys.prefix  # where the generators look for their templates
    try:
        for name, (module, generator) in _GENERATORS.items():
            make = getattr(importlib.import_module(module), generator)(name)
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                make.generate(package, idls, others, sources / name / package)
    finally:
        if old is None:
            del os.environ["AMENT_PREFIX_PATH"]
        else:
            os.environ["AMENT_PREFIX_PATH"] = old
    _compile_all(package, prefix, needed)


def _needed(share: Path, package: str, kinds: set[str]) -> list[str]:
    """The packages whose types are used."""
    named = {found for idl in share.rglob("*.idl") for found in re.findall(r'#include "(\w+)/', idl.read_text())}
    hidden = {other for kind in kinds for other in _HIDDEN[kind]}
    return sorted((named | hidden | {"builtin_interfaces"}) - {package})


def _compile_all(package: str, prefix: Path, needed: list[str]) -> None:
    sources, library = prefix / "src", prefix / "lib"
    library.mkdir(exist_ok=True)

    def of(name: str, pattern: str) -> list[Path]:
        return sorted((sources / name / package).rglob(pattern))

    def others(kind: str) -> list[str]:
        return [f"{other}__{kind}" for other in needed]

    def named(kind: str) -> Path:
        return library / f"lib{package}__{kind}.so"

    own = f"{package}__rosidl_generator_c"
    c, introspection, fastrtps, typesupport = (
        f"rosidl_{kind}" for kind in ("generator_c", "typesupport_introspection_c", "typesupport_fastrtps_c",
                                      "typesupport_c")
    )  # fmt: skip
    _compile(prefix, named(c), of("c", "*.c"), ["rosidl_runtime_c", "rcutils", *others(c)])
    _compile(prefix, named(introspection), of("introspection", "*.c"), [own, introspection, *others(introspection)])
    fast = [own, fastrtps, "rosidl_typesupport_fastrtps_cpp", "fastcdr", "rmw", *others(fastrtps)]
    _compile(prefix, named(fastrtps), of("fastrtps", "*.cpp"), fast)
    _compile(prefix, named(typesupport), of("typesupport", "*.cpp"), [own, typesupport, *others(typesupport)])
    _compile(prefix, named("rosidl_generator_py"), of("python", "*/_*_s.c"), [own, *others("rosidl_generator_py")])
    module = prefix / "python" / package
    shutil.copytree(sources / "python" / package, module, ignore=shutil.ignore_patterns("*.c", "*.json"))
    (module / "__init__.py").touch()
    glue = [own, f"{package}__{typesupport}", f"{package}__rosidl_generator_py"]
    entry = of("python", f"_*.ep.{typesupport}.c")
    _compile(prefix, module / f"{package}_s__{typesupport}.so", entry, glue)


def _compile(prefix: Path, target: Path, sources: list[Path], libraries: list[str]) -> None:
    import numpy

    home = Path(sys.prefix)
    includes = [*sorted((prefix / "src").iterdir()), *sorted(p for p in (home / "include").iterdir() if p.is_dir())]
    includes += [home / "include", Path(sysconfig.get_paths()["include"]), Path(numpy.get_include())]
    compiler = "g++" if sources[0].suffix == ".cpp" else "gcc"
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", *(f"-I{p}" for p in includes), *map(str, sources)]
    command += ["-o", str(target), f"-L{prefix / 'lib'}", f"-L{home / 'lib'}", *(f"-l{name}" for name in libraries)]
    try:
        subprocess.run([*command, "-Wl,--allow-shlib-undefined"], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise UserError(f"types cannot be compiled here: {compiler} is not installed") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "error" in line] or error.stderr.splitlines()
        raise UserError(f"{target.name} cannot be compiled: {lines[0] if lines else 'no reason given'}") from None
