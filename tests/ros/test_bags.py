"""Episodes to bags and back: the same observations and actions, or one line that says why not."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_robot import ROBOT, robot_config

from mcsd_agent.errors import UserError
from ros_bridge.bag import BagReader, BagWriter
from ros_bridge.bag_episodes import read_bag, write_bag
from ros_bridge.messages import load
from ros_bridge.recording import DrivenEpisode
from ros_bridge.robot_config import RobotConfig

RNG = np.random.default_rng(0)
TOPIC = {"max_age_s": 0.25}
JOINTS = {"names": ["a", "b"]}

#: Every way to observe, and values that it can have.
SOURCES: dict[str, tuple[dict[str, Any], Any]] = {
    "scan": (
        {"topic": "/scan", "scan": {"start_deg": 60, "stop_deg": -60, "rays": 31, "max_range_m": 4.0}},
        lambda n: RNG.uniform(0.0, 4.0, (n, 31)),
    ),
    "labels": (
        {"topic": "/labels", "label_image": {"width": 7, "classes": 14}},
        lambda n: RNG.integers(0, 14, (n, 7)),
    ),
    "position": (
        {"topic": "/joint_states", "joints": {**JOINTS, "quantity": "position"}},
        lambda n: RNG.normal(size=(n, 2)),
    ),
    "velocity": (
        {"topic": "/joint_states", "joints": {**JOINTS, "quantity": "velocity"}},
        lambda n: RNG.normal(size=(n, 2)),
    ),
    "wheels": (
        {"topic": "/odom", "odometry": {"wheel_radius_m": 0.033, "track_m": 0.16}},
        lambda n: RNG.normal(size=(n, 2)),
    ),
    "imu": ({"topic": "/imu", "imu": {}}, lambda n: RNG.normal(size=(n, 6))),
    "array": ({"topic": "/array", "array": {"shape": [2, 3], "start": 1}}, lambda n: RNG.normal(size=(n, 2, 3))),
    "degrees": (
        {
            "topic": "/angle",
            "message": "std_msgs/msg/Float64",
            "fields": ["data"],
            "unit": "rad",
            "message_unit": "deg",
        },
        lambda n: RNG.normal(size=(n, 1)),
    ),
    "camera": (
        {"topic": "/camera", "camera": {"width": 8, "height": 6, "flip": "both"}},
        lambda n: RNG.integers(0, 256, (n, 6, 8, 3), dtype=np.uint8),
    ),
    "gray": (
        {
            "topic": "/gray",
            "message": "sensor_msgs/msg/Image",
            "camera": {"width": 8, "height": 6, "colour": "gray", "layout": "chw"},
        },
        lambda n: RNG.integers(0, 256, (n, 1, 6, 8), dtype=np.uint8),
    ),
}
ACTIONS: dict[str, dict[str, Any]] = {
    "Twist": {},
    "TwistStamped": {"message": "geometry_msgs/msg/TwistStamped"},
    "scaled": {"scale": [0.5, -2.0], "low": [0.0, -2.0], "high": [0.5, 2.0]},
    "Ackermann": {
        "message": "ackermann_msgs/msg/AckermannDriveStamped",
        "fields": ["speed", "steering_angle"],
    },
    "array": {"message": "std_msgs/msg/Float64MultiArray", "fields": ["l", "r"], "stop": "zeros"},
    "trajectory": {
        "message": "trajectory_msgs/msg/JointTrajectory",
        "fields": ["b", "a"],
        "stop": "hold",
        "hold_from": "position",
    },
}


def rich_robot(action: str = "Twist", **changes: Any) -> RobotConfig:
    observations = {name: {**TOPIC, **block} for name, (block, _) in SOURCES.items()}
    words = {"topic": "/instruction"}
    return robot_config(observations=observations, action=ACTIONS[action], instruction=words, **changes)


def episode(length: int, text: str = "go", success: bool | None = True) -> DrivenEpisode:
    observations: dict[str, Any] = {
        name: np.asarray(v, np.float32) if (v := draw(length)).dtype.kind == "f" else v
        for name, (_, draw) in SOURCES.items()
    }
    observations["instruction"] = [text] * length
    actions = RNG.uniform([0.0, -1.0], [0.5, 1.0], (length, 2)).astype(np.float32)
    return DrivenEpisode(observations, actions, text, success)


def read(path: Path, config: RobotConfig, **arguments: Any) -> list[DrivenEpisode]:
    episodes: list[DrivenEpisode] = []
    assert read_bag(path, config, episodes.append, **arguments) == {}
    return episodes


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag_of_every_kind_of_sensor_comes_back_equal(tmp_path, storage):
    config = rich_robot()
    written = [episode(5), episode(3, "turn left", False), episode(1, "", None)]
    # Words may change on the way.
    written[0].observations["instruction"][3:] = ["stop"] * 2
    write_bag(tmp_path / "bag", config, written, storage)
    found = read(tmp_path / "bag", config)
    assert [(len(e), e.instruction, e.success, e.cut) for e in found] == [
        (5, "go", True, ""),
        (3, "turn left", False, ""),
        (1, "", None, ""),
    ]
    for before, after in zip(written, found, strict=True):
        assert before.observations.keys() == after.observations.keys()
        np.testing.assert_array_equal(before.actions, after.actions)
        for name, values in before.observations.items():
            if name in ("wheels", "degrees"):  # worked out, in another unit
                np.testing.assert_allclose(values, after.observations[name], rtol=1e-6, atol=1e-7)
            else:
                np.testing.assert_array_equal(values, after.observations[name])
    # The same demonstrations are the same messages at the same times.
    assert sum(1 for _ in BagReader(tmp_path / "bag", {"/cmd_vel": config.action.message}, {})) == 9


@pytest.mark.parametrize("action", sorted(set(ACTIONS) - {"Twist"}))
def test_every_kind_of_command_comes_back(tmp_path, action):
    config = rich_robot(action)
    written = episode(4)
    if action == "scaled":
        written.actions[:] *= [2.0, -1.0]
    write_bag(tmp_path / "bag", config, [written])
    (found,) = read(tmp_path / "bag", config)
    np.testing.assert_allclose(found.actions, written.actions, rtol=1e-6)


def test_bag_may_be_one_episode_or_as_many_as_instructions(tmp_path):
    config = rich_robot()
    write_bag(tmp_path / "bag", config, [episode(4), episode(4, "turn left")])
    by_words = read(tmp_path / "bag", config, boundary="instruction")
    assert [e.instruction for e in by_words] == ["go", "turn left"]
    # Between the two there is a pause that no sensor fills.
    (whole,) = (e for e in _episodes(tmp_path / "bag", config, "whole"))
    assert (len(whole), whole.cut[:6]) == (8, "stale:")


def _episodes(path: Path, config: RobotConfig, boundary: Any) -> list[DrivenEpisode]:
    episodes: list[DrivenEpisode] = []
    read_bag(path, config, episodes.append, boundary)
    return episodes


def test_single_files_and_own_messages_are_read(tmp_path):
    folder = tmp_path / "interfaces" / "my_robot" / "msg"
    folder.mkdir(parents=True)
    (folder / "Gripper.msg").write_text("float64 width\nbool closed\n")
    gripper = {**TOPIC, "topic": "/gripper", "message": "my_robot/msg/Gripper", "fields": ["width", "closed"]}
    config = robot_config(observations={"gripper": gripper}, interfaces=str(tmp_path / "interfaces"))
    values = np.float32([[0.5, 1.0], [0.25, 0.0]])
    actions = np.float32([[0.1, 0.2], [0.3, 0.4]])
    for storage, suffix in (("mcap", "mcap"), ("sqlite3", "db3")):
        write_bag(tmp_path / storage, config, [DrivenEpisode({"gripper": values}, actions, "", True)], storage)
        (file,) = (tmp_path / storage).glob(f"*.{suffix}")
        (found,) = read(file, config)
        np.testing.assert_array_equal(found.observations["gripper"], values)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    config = robot_config()
    drive = DrivenEpisode(
        {"joint": RNG.normal(size=(50, 1)).astype(np.float32)}, np.zeros((50, 2), np.float32), "", True
    )
    write_bag(tmp_path / "bag", config, [drive])
    write_bag(tmp_path / "sqlite", config, [drive], "sqlite3")
    return tmp_path / "bag"


def refused(path: Path, config: RobotConfig | None = None, boundary: Any = None) -> str:
    with pytest.raises(UserError) as caught:
        read_bag(path, config or robot_config(), lambda e: None, boundary)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["bag", "sqlite"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.95])
def test_truncated_bag_is_one_line(bag, kind, share):
    folder = bag.parent / kind
    (file,) = (p for p in folder.iterdir() if p.name != "metadata.yaml")
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    assert "cannot be read" in refused(folder) or "no message" in refused(folder)


def test_scrambled_bag_is_read_or_refused(bag):
    (file,) = bag.glob("*.mcap")
    data = file.read_bytes()
    for seed in range(20):
        scrambled = bytearray(data)
        for at in np.random.default_rng(seed).integers(0, len(data), 20):
            scrambled[at] ^= 0xFF
        file.write_bytes(bytes(scrambled))
        with contextlib.suppress(UserError):
            read_bag(bag, robot_config(), lambda e: None)


def test_what_is_no_bag_is_one_line(bag, tmp_path):
    assert "cannot be read" in refused(tmp_path / "nothing")
    (bag / "metadata.yaml").write_text("rosbag2_bagfile_information: 3")
    assert "cannot be read" in refused(bag)
    (bag / "metadata.yaml").unlink()
    assert "ros2 bag reindex" in refused(bag)
    text = tmp_path / "text.mcap"
    text.write_text("nothing of the kind")
    assert "cannot be read" in refused(text)


def test_missing_topic_and_other_type_are_named(bag):
    other = {**ROBOT["observations"]["joint"], "topic": "/other"}
    message = refused(bag, robot_config(observations={"joint": other}))
    assert "no message on the robot's topic /other; it has /cmd_vel, /episode, /joint_states" in message
    message = refused(bag, robot_config(action={"message": "geometry_msgs/msg/TwistStamped"}))
    assert "geometry_msgs/msg/Twist on /cmd_vel; the robot's YAML expects geometry_msgs/msg/TwistStamped" in message
    assert "no instruction" in refused(bag, boundary="instruction")


def test_messages_without_what_the_robot_needs_are_told(bag):
    joints = {**ROBOT["observations"]["joint"], "joints": {"names": ["elbow"], "quantity": "position"}}
    episodes: list[DrivenEpisode] = []
    dropped = read_bag(bag, robot_config(observations={"joint": joints}), episodes.append)
    assert episodes == []
    assert dropped["unreadable joint"] == 50
    assert any("no joint 'elbow'" in reason for reason in dropped)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"actions": np.full((2, 2), 3.0, np.float32)}, "beyond what robot"),
        ({"actions": np.zeros((2, 3), np.float32)}, "2 numbers"),
        ({"observations": {"joint": np.zeros((2, 4), np.float32)}}, r"has shape \(1,\)"),
        ({"observations": {}}, "has none"),
        ({"observations": {"joint": np.full((2, 1), np.inf, np.float32)}}, "cannot be written"),
    ],
)
def test_demonstrations_that_the_topics_cannot_carry_are_refused(tmp_path, change, part):
    good = {"observations": {"joint": np.zeros((2, 1), np.float32)}, "actions": np.zeros((2, 2), np.float32)}
    if "cannot be written" in part:
        config = robot_config(observations={"joint": {**TOPIC, "topic": "/n", "message": "std_msgs/msg/Int8",
                                                      "fields": ["data"]}})  # fmt: skip
        change = {"observations": {"joint": np.full((2, 1), 0.5, np.float32)}}
    else:
        config = robot_config()
    with pytest.raises(UserError, match=part):
        write_bag(tmp_path / "bag", config, [DrivenEpisode(**{**good, **change}, instruction="", success=True)])


def test_words_that_the_robot_would_show_otherwise_are_refused(tmp_path):
    config = robot_config(instruction={"topic": "/instruction", "spoken_ticks": 2})
    told = {"joint": np.zeros((4, 1), np.float32), "instruction": ["go", "go", "go", ""]}
    with pytest.raises(UserError, match="spoken_ticks"):
        write_bag(tmp_path / "bag", config, [DrivenEpisode(told, np.zeros((4, 2), np.float32), "go", True)])


def test_existing_folder_is_left_alone(bag):
    before = sorted(p.name for p in bag.iterdir())
    with pytest.raises(UserError, match="exists already"):
        BagWriter(bag, "mcap")
    assert sorted(p.name for p in bag.iterdir()) == before
    shutil.rmtree(bag)
    with BagWriter(bag, "mcap") as writer:
        writer.add("/words", 1, load("std_msgs/msg/String")(data="here"))
    with BagReader(bag, {"/words": "std_msgs/msg/String"}, {}) as reader:
        assert [(topic, message.data) for _, topic, message in reader] == [("/words", "here")]
