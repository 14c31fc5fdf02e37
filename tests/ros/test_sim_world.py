"""The simulated robot's own rules, without ROS: its watchdog, its tasks, and when it judges."""

from __future__ import annotations

from ros_bridge.sim_world import CommandWatch, World


def test_watchdog_stops_the_wheels_when_commands_stay_away_and_lets_go_when_they_return():
    watch = CommandWatch(0.3)
    assert watch.drive(0.0) == (0.0, 0.0)
    watch.command(0.5, 0.1, 1.0)
    assert watch.drive(1.0) == watch.drive(1.29) == (0.5, 0.1)
    assert watch.drive(1.3) == (0.0, 0.0)
    assert watch.is_stopped
    assert watch.stops == 1
    watch.command(0.2, 0.0, 2.0)
    assert watch.drive(2.0) == (0.2, 0.0)
    assert watch.received == 2


def test_nothing_is_judged_before_an_instruction_is_heard():
    world = World()
    world.new_task({"task": "a", "seed": 1, "instruction": "go to the red ball"})
    for _ in range(20):  # standing still fulfils "stop", which nobody said
        world.step(0.0, 0.0)
    assert world.state()["success"] is False
    assert world.state()["instruction"] == ""
    world.hear("stop")
    for _ in range(20):
        world.step(0.0, 0.0)
    assert world.state()["success"] is True
    assert world.state()["heard"] == 1


def test_objects_that_the_task_names_are_in_the_arena():
    world = World()
    world.new_task({"task": "a", "seed": 1, "instruction": "go to the blue cone, then the red box", "n_objects": 3})
    names = {o["name"] for o in world.state()["objects"]}
    assert {"blue cone", "red box"} <= names
    assert len(names) == 3


def test_same_task_twice_is_one_task_and_same_seed_is_the_same_arena():
    world = World()
    world.new_task({"task": "a", "seed": 4})
    world.step(0.3, 0.0)
    moved = world.state()["pose"]
    world.new_task({"task": "a", "seed": 4})
    assert world.state()["pose"] == moved
    world.new_task({"task": "b", "seed": 4})
    assert world.state()["pose"] != moved
    assert world.state()["tick"] == 0


def test_senseless_task_or_instruction_is_reported_and_changes_nothing():
    world = World()
    world.new_task({"task": "a", "seed": 4})
    world.new_task({"task": "b", "sed": 4})
    assert "unknown key 'sed'" in world.state()["error"]
    assert world.state()["task"] == "a"
    world.hear("dance")
    assert "dance" in world.state()["error"]
    assert world.state()["success"] is False
