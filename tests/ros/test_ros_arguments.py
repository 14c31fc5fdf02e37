"""`--ros-args` and parameter files, compared with native rclpy where that has an answer."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest
from conftest import ROOT, require_ros

from ros_bridge.parameter_file import matches, read_file, read_value
from ros_bridge.rclpy import _ros_arguments as ros_arguments
from ros_bridge.rclpy.exceptions import RCLError, UnknownROSArgsError

FILE = """
/**:
  ros__parameters: {a: 1, b: {c: 2.5, d: [1, 2]}, e: "5", f: yes, g: 0x10, h: [a, "b"], i: .inf, j: 1e3, k: on, l: ~,
    m: 2025-01-01, n: '3', o: Off, q: TRUE, r: 1_000, s: 010, t: -7, u: -.5, v: [true, no], w: +3, x: "",
    y: hello world}
/ns/nd:
  ros__parameters: {a: 2, own: 1}
nd:
  ros__parameters: {a: 3, bare: 1}
/*/nd:
  ros__parameters: {star: 1}
/**/nd:
  ros__parameters: {dstar: 1}
/ns:
  nd:
    ros__parameters: {nest: {deep: 1}}
/nd:
  ros__parameters: {root: 1}
"""

NATIVE = """
import json, sys
from rclpy.context import Context
from rclpy.node import Node
out = []
for arguments, namespace in json.load(sys.stdin):
    context = Context()
    context.init(["p", "--ros-args", *arguments])
    node = Node("nd", context=context, namespace=namespace, enable_rosout=False,
                automatically_declare_parameters_from_overrides=True)
    values = {name: p.value for name, p in node._parameters.items() if not name.startswith(("use_sim", "start_"))}
    out.append([node.get_fully_qualified_name(), values])
    node.destroy_node()
    context.shutdown()
print(json.dumps(out))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(FILE)
    return str(path)


def test_overrides_are_those_of_native_rclpy(file):
    require_ros()
    cases = [
        (["--params-file", file], "ns"),
        (["--params-file", file], None),
        (["-p", "x:=1", "-p", "nd:x:=3", "-p", "x:=4", "-p", "other:x:=5"], None),
        (["--params-file", file, "-p", "a:=9", "-p", "nd:bare:=7"], None),
        (["-p", "own:=1", "-r", "__node:=renamed", "-p", "renamed:a:=2", "-p", "nd:b:=3"], None),
        (["-p", "s:=hello world", "-p", "t:='5'", "-p", "u:=[1, 2]", "-p", "v.w:=-1.5", "-p", "b:=true"], "ns"),
    ]
    process = subprocess.run(
        [sys.executable, "-c", NATIVE], input=json.dumps(cases), capture_output=True, text=True, cwd=ROOT, check=True
    )
    for (arguments, namespace), (full_name, native) in zip(cases, json.loads(process.stdout), strict=True):
        parsed = ros_arguments.parse(["--ros-args", *arguments])
        name, space = ros_arguments.remap_node([parsed], "nd", f"/{namespace or ''}")
        assert f"{space.rstrip('/')}/{name}" == full_name
        values = ros_arguments.overrides([parsed], full_name)
        assert values == native, arguments
        assert {k: type(v) for k, v in values.items()} == {k: type(v) for k, v in native.items()}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1.0", 1.0), ("'1'", "1"), ("[a, b]", ["a", "b"]), ("no", False), ("nO", "nO"), ("-0x1f", -31)],
)
def test_value_has_the_type_it_looks_like(text, value):
    assert read_value(text) == value
    assert type(read_value(text)) is type(value)
    assert math.isnan(read_value(".nan"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a: [1, b]\n", "before ros__parameters"),
        ("/**:\n  ros__parameters: {a: [1, b]}\n", "same type, at line 2"),
        ("/**:\n  ros__parameters: {a: [[1]]}\n", "same type"),
        ("ros__parameters: {a: 1}\n", "needs a node name"),
        ("/**:\n  ros__parameters: 3\n", "must hold parameters"),
        ("a: {b", "Error parsing"),
    ],
)
def test_bad_file_says_what_is_wrong(tmp_path, content, reason):
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=reason):
        read_file(path)
    with pytest.raises(RCLError, match="Couldn't parse params file"):
        ros_arguments.parse(["--ros-args", "--params-file", str(path)])


def test_wildcards_name_nodes():
    assert matches("/**", "/a/b")
    assert matches("/*/b", "/a/b")
    assert not matches("/*/b", "/b")
    assert matches("/**/b", "/b")
    assert not matches("/a", "/a/b")


@pytest.mark.parametrize(
    "bad",
    ["-r x", "-r :=x", "-r x:=", "-r __ns:=relative", "-r __node:=1a", "-p x", "-p :=1", "-p x:={a: 1}",
     "--log-level loud", "-r", "-p", "--params-file", "--log-level"],
)  # fmt: skip
def test_rule_that_cannot_be_read_is_named(bad):
    flag, _, rule = bad.partition(" ")
    with pytest.raises(RCLError, match="failed to initialize rcl: Couldn't parse"):
        ros_arguments.parse(["--ros-args", flag, *([rule] if rule else [])])


def test_unknown_flags_are_refused_and_own_ones_kept():
    with pytest.raises(UnknownROSArgsError, match="--fast"):
        ros_arguments.parse(["--ros-args", "--fast"])
    assert ros_arguments.parse(["prog", "--fast", "--ros-args", "--", "x"]).remaining == ["prog", "--fast", "x"]


def test_rules_of_the_node_come_before_those_of_the_program():
    own = ros_arguments.parse(["--ros-args", "-r", "a:=own", "-p", "x:=1"])
    program = ros_arguments.parse(["--ros-args", "-r", "a:=program", "-p", "x:=2", "-p", "y:=3"])
    sources = [own, program]
    assert ros_arguments.remap_name(sources, "/a", "n", "/", is_service=False) == "/own"
    assert ros_arguments.overrides(sources, "/n") == {"x": 1, "y": 3}
