"""The list of what a robot installs agrees with the extra `robot` and with the versions tested."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: What roslibpy and rosbags ask for, and nothing on a robot imports.
LEFT_OUT = {"twisted", "apsw", "backports-zstd", "zstandard", "lz4"}


def name_of(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def pins(file: str) -> dict[str, str]:
    lines = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {name_of(line): line.partition("==")[2] for line in lines}


def test_every_version_is_the_tested_one() -> None:
    tested, robot = pins("constraints.txt"), pins("requirements-robot.txt")
    assert all(robot.values())
    assert {name: tested[name] for name in robot if name in tested} == {n: robot[n] for n in robot if n in tested}


def test_the_extra_and_its_dependencies_are_on_the_list() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [name_of(r) for r in (*project["dependencies"], *project["optional-dependencies"]["robot"])]
    needed: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in needed or name in LEFT_OUT:
            continue
        needed.add(name)
        # Markers for other interpreters and older Pythons name packages that this one does not need.
        waiting += [name_of(r) for r in requires(name) or () if ";" not in r]
    listed = set(pins("requirements-robot.txt"))
    assert needed - listed == set()
    assert not listed & LEFT_OUT
