"""The documents agree with the code: commands, config keys and their defaults, links, snippets."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from mcsd_agent.cli import _parser
from mcsd_agent.encoders import EncoderConfig
from mcsd_agent.policy import PolicyConfig
from mcsd_agent.runtime import ControllerConfig, RealTimeConfig, Tick
from mcsd_agent.runtime.controller_mode import Mode
from mcsd_agent.strict import to_dict
from mcsd_agent.training.config import EvaluationConfig, ImitateConfig, PPOConfig, SACConfig, TrainConfig
from mcsd_agent.training.demos import RecordConfig
from mcsd_agent.training.env_options import EnvOptions
from mcsd_agent.training.imitation import ImitationConfig
from mcsd_agent.training.tune_config import TuneConfig
from ros_bridge import camera_config, robot_config

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def sections(page: str) -> dict[str, str]:
    """Text by its nearest heading."""
    parts = re.split(r"^#+ (.+)$", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(section: str) -> dict[str, list[str]]:
    """The cells of a table by its first one, which is a key in backticks."""
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in cells}


@pytest.mark.parametrize(
    ("heading", "config"),
    [
        ("`train`: the file", TrainConfig(env="CartPole-v1")),
        ("`imitate`: the file", ImitateConfig()),
        ("`policy`", PolicyConfig()),
        ("`policy.encoder`", EncoderConfig()),
        ("`ppo`", PPOConfig()),
        ("`sac`", SACConfig()),
        ("`options`", EnvOptions()),
        ("`tune`", TuneConfig()),
        ("`record`", RecordConfig()),
        ("`imitation`", ImitationConfig()),
        ("`evaluation`", EvaluationConfig()),
    ],
)
def test_every_config_key_is_documented_with_its_default(heading, config):
    documented = rows(sections(text("docs/training.md"))[heading])
    assert list(documented) == [f.name for f in dataclasses.fields(config)]
    for name, value in to_dict(config).items():
        default = documented[name][1].strip("`")
        if default:
            assert yaml.safe_load(default) == value, name
        else:  # a mapping with a table of its own, or no default at all
            assert isinstance(value, dict) or name == "env", name


@pytest.mark.parametrize(
    "cls",
    [
        robot_config.ObservationConfig,
        robot_config.ActionConfig,
        robot_config.RobotConfig,
        robot_config.InstructionConfig,
        robot_config.HeartbeatConfig,
        robot_config.EmergencyStopConfig,
        camera_config.Camera,
        camera_config.Crop,
        camera_config.Undistort,
        robot_config.SafetyConfig,
    ],
)
def test_every_key_of_a_robot_is_documented(cls):
    page = text("docs/robot.md")
    assert [f.name for f in dataclasses.fields(cls) if f"`{f.name}`" not in page] == []


def test_every_key_of_the_controller_is_documented_with_its_default():
    page = sections(text("docs/controller.md"))
    documented = rows(page["Configuration"])
    assert list(documented) == [f.name for f in dataclasses.fields(ControllerConfig)]
    for name in ("max_clock_jump_s", "state_norm_ticks", "on_resume", "on_telemetry_loss"):
        assert yaml.safe_load(documented[name][0].strip("`")) == getattr(ControllerConfig(), name)
    assert set(get_args(Mode)) == set(rows(page["States"]))
    assert [key.split("`")[0] for key in rows(page["Real time"])] == [
        f.name for f in dataclasses.fields(RealTimeConfig)
    ]
    ticks = {name for key in rows(page["Telemetry"]) for name in key.replace("`", "").split(", ")}
    assert ticks >= {f.name for f in dataclasses.fields(Tick)}


def test_every_command_is_in_the_readme():
    (commands,) = [a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction)]
    documented = [row.split()[0] for row in rows(sections(text("README.md"))["Commands"])]
    assert sorted(documented) == sorted(commands.choices)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = target.partition("#")
        if path.startswith("https://arxiv.org/"):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(page: Path) -> list[str]:
    """Anchors of the headings, as forges make them: a name that comes again is numbered."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M):
        name = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        again = sum(re.sub(r"-\d+$", "", a) == name for a in found)
        found.append(f"{name}-{again}" if again else name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_snippets_are_python_and_import_what_exists(page):
    for source in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        imports = [n for n in ast.walk(ast.parse(source)) if isinstance(n, (ast.Import, ast.ImportFrom))]
        for node in imports:
            exec(compile(ast.Module([node], []), str(page), "exec"), {})
