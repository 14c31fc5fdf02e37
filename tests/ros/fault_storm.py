"""Random faults between an edge program on the bridge and a robot on native rclpy, through a real rosbridge server.

    python tests/ros/fault_storm.py --injections 200 --seed 1 --json

Between the server and the robot runs a guard of commands, `mcsd-agent guard`; `--unguarded` leaves it out. Every fault
ends, and then everything must work again: four sensors, the commands, the edge's service. What is measured:
the age of every command that the robot heard, the time from the end of a fault to the first fresh data in both
directions, what never came back, and the edge's threads and memory.

A server or robot that was killed and restarted counts as back when the server passes messages both ways between the
robot and a client that connected the moment it ran. After `kill -9` that takes DDS up to 4 s, with native rclpy in the
server's place as well.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from storm_proxy import Proxy  # noqa: E402

from ros_bridge.server import RosbridgeServer, end_group  # noqa: E402

STALE_S, RECOVERY_S, GIVE_UP_S = 0.2, 1.5, 15.0
SENSORS = 4
TOPIC, TIME_TOPIC = "/storm/joints", "/command_guard/time"
#: FastDDS without shared memory: a process that dies or is stopped with a hand on it holds up all native nodes.
UDP_ONLY = {
    "FASTRTPS_DEFAULT_PROFILES_FILE": str(Path(__file__).with_name("udp_only.xml")),
    "ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT",  # which leaves the transports alone
}
GUARD = ("--from", "/storm/command", "--to", "/storm/guarded_command", "--plain")


class Storm:
    """The processes, and what they said."""

    def __init__(self, seed: int, *, reliable: bool, guarded: bool) -> None:
        self._robot_options = ["--reliable"] * reliable + ["--guarded"] * guarded
        self.guard: subprocess.Popen[str] | None = None
        self.guarded = guarded
        self.random = random.Random(seed)
        self.server = RosbridgeServer(variables=UDP_ONLY if guarded else None)
        self.commands: list[tuple[float, float]] = []  # (stamp, age)
        self.newest: dict[str, float] = {}
        self.answered = self.clock_s = self.probed = 0.0
        self.counters: dict[str, int] = {}
        self.guard_counts: list[dict[str, int]] = []  # of every guard, the newest
        self.stops = 0  # that the robot heard
        self.discovery_s: list[float] = []  # from the restart of server or robot until the server passes data
        self._ready = threading.Event()

    def __enter__(self) -> Storm:
        self.server.start()
        self.proxy = Proxy(self.server.port).__enter__()
        self.robot = self.start_robot()
        if self.guarded:
            self.start_guard()
        time_topic = [TIME_TOPIC] * self.guarded
        self.edge = self._start(self._script("storm_edge.py"), f"ws://127.0.0.1:{self.proxy.port}", *time_topic)
        return self

    def __exit__(self, *failure: object) -> None:
        for process in (self.edge, self.robot, self.guard):
            if process is None:
                continue
            with contextlib.suppress(ProcessLookupError):  # ended in the middle of a restart
                os.killpg(process.pid, signal.SIGCONT)
            end_group(process)
        self.proxy.__exit__()
        self.server.stop()

    def start_robot(self) -> subprocess.Popen[str]:
        """Start the robot and wait until it runs."""
        self._ready.clear()
        robot = self._start(self._script("storm_robot.py"), *self._robot_options, env=self.server.node_environment())
        assert self._ready.wait(20)
        return robot

    def start_guard(self) -> None:
        """Start the guard; it tells the robot to stop until it hears commands."""
        self.guard_counts.append({})
        self.guard = self._start("-m", "mcsd_agent", "guard", *GUARD, env=self.server.node_environment())

    def tell(self, process: subprocess.Popen[str], word: str) -> None:
        """A line on its standard input."""
        assert process.stdin is not None
        process.stdin.write(word + "\n")
        process.stdin.flush()

    def recover(self, since: float, give_up_s: float = GIVE_UP_S) -> tuple[float | None, list[str]]:
        """Seconds from `since` until fresh data came from all sensors and a command arrived, and what never came."""
        deadline, data_s = since + give_up_s, None
        while True:
            fresh = [topic for topic, stamp in list(self.newest.items()) if stamp > since]
            has_command = bool(self.commands) and self.commands[-1][0] > since
            if data_s is None and len(fresh) == SENSORS and has_command:
                data_s = time.monotonic() - since
            if data_s is not None and self.answered > since:
                return data_s, []
            if time.monotonic() > deadline:
                lost = [topic for topic in self.newest if topic not in fresh]
                return data_s, lost + ["command"] * (not has_command) + ["service"] * (self.answered <= since)
            time.sleep(0.005)

    @staticmethod
    def _script(name: str) -> str:
        return str(Path(__file__).with_name(name))

    def clock_is_back(self, since: float) -> bool:
        """Whether the edge's simulated clock begins anew; the robot takes a moment to hear that it is to."""
        while not self.clock_s < time.monotonic() - since + 1.0:
            if time.monotonic() > since + GIVE_UP_S:
                return False
            time.sleep(0.005)
        return True

    def _start(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=env,
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        threading.Thread(target=self._read, args=(process,), daemon=True).start()
        return process

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            if "command" in said:
                self.commands.append((said["stamp"], said["command"]))
            elif "stop" in said:
                self.stops += 1
            elif "guard" in said:
                self.guard_counts[-1] = said["guard"]
            elif "newest" in said:
                self.newest, self.clock_s = said["newest"], said["clock_s"]
            elif "answered" in said:
                self.answered = said["answered"]
            elif "probed" in said:
                self.probed = said["probed"]
            elif "ready" in said:
                self._ready.set()
            elif "counters" in said:
                self.counters = said["counters"]


# -- the faults: each returns the moment from which everything must work again -----------------------


def outage_s(storm: Storm) -> float:
    """Mostly short, now and then up to 15 s."""
    draw = storm.random.random()
    return 15.0 * storm.random.random() if draw < 0.04 else 0.2 + 1.3 * storm.random.random()


def kill_server(storm: Storm) -> float:
    storm.server.kill()
    time.sleep(outage_s(storm))
    storm.server.start()
    return discovered(storm)


def discovered(storm: Storm) -> float:
    """Wait until the server passes messages both ways between the robot, and its guard, and a client that comes now."""
    begun, missing = time.monotonic(), {b"position"} | ({TIME_TOPIC.encode()} if storm.guarded else set())
    with stranger(storm.server.port) as link:
        link.settimeout(0.02)
        for topic, kind in ((TOPIC, "sensor_msgs/msg/JointState"), (TIME_TOPIC, "builtin_interfaces/msg/Time")):
            link.sendall(web_frame(_json(op="subscribe", topic=topic, type=kind)))
        kind = "geometry_msgs/msg/TwistStamped" if storm.guarded else "std_msgs/msg/Empty"
        probe_topic = "/storm/command" if storm.guarded else "/storm/probe"
        link.sendall(web_frame(_json(op="advertise", topic=probe_topic, type=kind)))
        while (missing or storm.probed < begun) and time.monotonic() < begun + GIVE_UP_S:
            link.sendall(web_frame(_json(op="publish", topic=probe_topic, msg=_probe() if storm.guarded else {})))
            try:
                received = link.recv(65536)
                missing = {word for word in missing if word not in received}
            except TimeoutError:
                continue
    storm.discovery_s.append(time.monotonic() - begun)
    return time.monotonic()


def _probe() -> dict[str, Any]:
    """A command that says so in `angular.y`; the guard's clock is this machine's."""
    return {"header": _header(0.0), "twist": {"angular": {"y": 1.0}}}


def _header(age_s: float) -> dict[str, Any]:
    seconds, nanoseconds = divmod(time.time_ns() - int(1e9 * age_s), 1_000_000_000)
    return {"stamp": {"sec": seconds, "nanosec": nanoseconds}}


def old_commands(storm: Storm) -> float:
    """Another client repeats commands of long ago."""
    ages = [0.25 + storm.random.random() ** 3 * 20.0 for _ in range(5)]
    frames = [
        {"header": _header(age), "twist": {"angular": {"x": time.monotonic() - age}}} for age in sorted(ages)[::-1]
    ]
    kind = {"topic": "/storm/command", "type": "geometry_msgs/msg/TwistStamped"}
    rogue(
        storm.server.port,
        (_json(op="advertise", **kind), *(_json(op="publish", topic=kind["topic"], msg=frame) for frame in frames)),
        False,
    )
    return time.monotonic()


def stop_server(storm: Storm) -> float:
    pid = storm.server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    time.sleep(outage_s(storm))
    os.kill(pid, signal.SIGCONT)
    return time.monotonic()


def hold_link(storm: Storm) -> float:
    storm.proxy.hold()
    time.sleep(outage_s(storm))
    storm.proxy.release()
    return time.monotonic()


def hold_and_cut_link(storm: Storm) -> float:
    storm.proxy.hold()
    time.sleep(outage_s(storm))
    storm.proxy.cut()
    storm.proxy.release()
    return time.monotonic()


def cut_link(storm: Storm) -> float:
    storm.proxy.cut()
    return time.monotonic()


def restart_robot(storm: Storm) -> float:
    os.killpg(storm.robot.pid, signal.SIGKILL)
    storm.robot.wait()
    storm.robot = storm.start_robot()
    return discovered(storm)


def restart_guard(storm: Storm) -> float:
    assert storm.guard is not None
    os.killpg(storm.guard.pid, signal.SIGKILL)
    storm.guard.wait()
    storm.start_guard()
    return discovered(storm)


def stop_guard(storm: Storm) -> float:
    assert storm.guard is not None
    return _stop(storm, storm.guard.pid)


def stop_edge(storm: Storm) -> float:
    return _stop(storm, storm.edge.pid)


def _stop(storm: Storm, pid: int) -> float:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.2 + storm.random.random())
    os.kill(pid, signal.SIGCONT)
    return time.monotonic()


def slow_consumer(storm: Storm) -> float:
    storm.tell(storm.edge, "slow 1.0")
    time.sleep(1.0)
    return time.monotonic()


def reset_sim_clock(storm: Storm) -> float:
    storm.tell(storm.robot, "reset")
    return time.monotonic()


def jump_wall_clock(storm: Storm) -> float:
    storm.tell(storm.edge, f"jump {storm.random.choice([-3600.0, 3600.0, -1e6, 0.5])}")
    return time.monotonic()


def _to_edge(payload: bytes, *, binary: bool = False) -> Callable[[Storm], float]:
    def inject(storm: Storm) -> float:
        storm.proxy.inject(payload, binary=binary)
        return time.monotonic()

    return inject


def _to_server(*payloads: bytes, binary: bool = False) -> Callable[[Storm], float]:
    def inject(storm: Storm) -> float:
        rogue(storm.server.port, payloads, binary)
        return time.monotonic()

    return inject


def rogue(port: int, payloads: tuple[bytes, ...], binary: bool) -> None:
    """Another client of the server, that says `payloads` and leaves."""
    with stranger(port) as link:
        for payload in payloads:
            try:
                link.sendall(web_frame(payload, 0x82 if binary else 0x81))
            except OSError:
                return  # it had enough
        time.sleep(0.1)


def stranger(port: int) -> socket.socket:
    """A WebSocket to the server itself, without any of the code under test."""
    link = socket.create_connection(("127.0.0.1", port), 2.0)
    link.sendall(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    link.recv(4096)
    return link


def web_frame(payload: bytes, opcode: int = 0x81) -> bytes:
    """A whole message of a client."""
    return bytes([opcode, 0xFF]) + len(payload).to_bytes(8, "big") + bytes(4) + payload


def _json(**frame: Any) -> bytes:
    return json.dumps(frame).encode()


def faults(*, guarded: bool) -> dict[str, tuple[int, Callable[[Storm], float]]]:
    """Every kind of fault with its share."""
    guards: dict[str, tuple[int, Callable[[Storm], float]]] = {
        "guard killed and restarted": (2, restart_guard),
        "guard stopped and continued": (2, stop_guard),
        "old commands": (2, old_commands),
    }
    wrong = [
        _json(op="publish", topic=TOPIC, msg={"name": 3, "position": "x", "header": []}),
        _json(op="publish", topic=TOPIC, msg=[1, 2]),
        _json(op="publish", topic=7, msg=None),
        _json(op="call_service", service="/storm/service", id=5, args="no"),
    ]
    return {
        "server killed and restarted": (5, kill_server),
        "server stopped and continued": (4, stop_server),
        "link half open, then delivers": (3, hold_link),
        "link half open, then reset": (3, hold_and_cut_link),
        "link reset": (2, cut_link),
        "malformed JSON to the edge": (1, _to_edge(b'{"op": "publish", "topic": ')),
        "wrong types to the edge": (2, lambda storm: _to_edge(storm.random.choice(wrong))(storm)),
        "deeply nested JSON to the edge": (1, _to_edge(b"[" * 100_000)),
        "oversized frame to the edge": (2, _to_edge(b'"' + b"x" * (17 << 20) + b'"')),
        "heavy frame to the edge": (1, _to_edge(b"[" + b"{}," * (5 << 20) + b"0]")),
        "binary frame to the edge": (2, lambda storm: _to_edge(storm.random.randbytes(200), binary=True)(storm)),
        "malformed JSON to the server": (1, _to_server(b"{nonsense")),
        "wrong types to the server": (
            1, _to_server(_json(op="publish", topic="/storm/command", type="geometry_msgs/msg/TwistStamped", msg=3)),
        ),
        "oversized frame to the server": (1, _to_server(b'"' + b"x" * (17 << 20) + b'"')),
        "binary frame to the server": (1, _to_server(b"\xff\x00\x17" * 50, binary=True)),
        "duplicate advertise": (
            2, _to_server(*(_json(op="advertise", topic="/storm/command", type=t) for t in
                            ("geometry_msgs/msg/TwistStamped", "std_msgs/msg/String"))),
        ),
        "slow consumer": (2, slow_consumer),
        "edge stopped and continued": (2, stop_edge),
        "robot restarted": (2, restart_robot),
        "simulated clock reset": (2, reset_sim_clock),
        "wall clock jump": (2, jump_wall_clock),
        **(guards if guarded else {}),
    }  # fmt: skip


def schedule(rng: random.Random, injections: int, *, guarded: bool) -> list[str]:
    """Every kind by its share, in random order; with few injections, the commonest kinds first."""
    kinds = faults(guarded=guarded)
    total = sum(share for share, _ in kinds.values())
    counts = {kind: share * injections // total for kind, (share, _) in kinds.items()}
    for kind in sorted(kinds, key=lambda k: -kinds[k][0])[: injections - sum(counts.values())]:
        counts[kind] += 1
    order = [kind for kind, count in counts.items() for _ in range(count)]
    rng.shuffle(order)
    return order


def rounds(rng: random.Random, injections: int, minutes: float | None, *, guarded: bool) -> Iterator[str]:
    """One schedule, or with `minutes` one after the other until they are over."""
    end = None if minutes is None else time.monotonic() + 60 * minutes
    while True:
        for kind in schedule(rng, injections, guarded=guarded):
            if end is not None and time.monotonic() > end:
                return
            yield kind
        if end is None:
            return


def run(
    injections: int,
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
    *,
    reliable: bool = False,
    guarded: bool = True,
    minutes: float | None = None,
) -> dict[str, Any]:
    """Inject, and return the figures."""
    kinds, started = faults(guarded=guarded), time.monotonic()
    recoveries: dict[str, list[float]] = {}
    lost: list[str] = []
    threads, memory = [], []
    with Storm(seed, reliable=reliable, guarded=guarded) as storm:
        data_s, missing = storm.recover(time.monotonic(), give_up_s=60.0)  # the processes are still starting
        assert not missing, f"nothing works before the first fault: {missing}"
        # The largest frames first, so that what the allocator keeps for the next one is there from the start.
        for kind in ("heavy frame to the edge", "oversized frame to the edge"):
            storm.recover(kinds[kind][1](storm))
        process = psutil.Process(storm.edge.pid)
        with contextlib.suppress(KeyboardInterrupt):  # ended early: the figures so far
            for number, kind in enumerate(rounds(storm.random, injections, minutes, guarded=guarded), 1):
                time.sleep(0.1 + 0.2 * storm.random.random())
                begun, heard = time.monotonic(), len(storm.commands)
                since = kinds[kind][1](storm)
                data_s, missing = storm.recover(since)
                recoveries.setdefault(kind, []).append(GIVE_UP_S if data_s is None else data_s)
                lost += [f"{kind}: {what}" for what in missing]
                if kind == "simulated clock reset" and not storm.clock_is_back(since):
                    lost.append(f"{kind}: the edge's clock went on from {storm.clock_s:.0f} s")
                threads.append(process.num_threads())
                memory.append(process.memory_info().rss / 2**20)
                oldest_ms = 1e3 * max((age for _, age in storm.commands[heard:]), default=0.0)
                progress(
                    f"{number:3d} {kind}: outage {since - begun:.2f} s, recovered in {data_s or -1:.2f} s,"
                    f" oldest command {oldest_ms:.0f} ms, {threads[-1]} threads, {memory[-1]:.0f} MiB {missing or ''}"
                )
        storm.tell(storm.edge, "counters")
        time.sleep(0.5)
        ages = sorted(age for _, age in storm.commands)
        counters, discovery_s = storm.counters, storm.discovery_s
        guard, stops = _sums(storm.guard_counts), storm.stops
    everything = [value for values in recoveries.values() for value in values]
    quarters = [memory[n * len(memory) // 4 : (n + 1) * len(memory) // 4] or memory for n in range(4)]
    return {
        "injections": len(everything),
        "seed": seed,
        "commands_heard_as": "reliable" if reliable else "best effort",
        "guarded": guarded,
        "duration_s": round(time.monotonic() - started, 1),
        "commands_heard": len(ages),
        "oldest_command_ms": round(1e3 * ages[-1], 1),
        "p99_command_ms": round(1e3 * ages[int(0.99 * (len(ages) - 1))], 1),
        "commands_older_than_200_ms": sum(age > STALE_S for age in ages),
        "stale_ms": [round(1e3 * age, 1) for age in ages if age > STALE_S],
        "lost": lost,
        "recovery_s": {"median": round(statistics.median(everything), 3), "max": round(max(everything), 3)},
        "recoveries_over_1.5_s": sum(value > RECOVERY_S for value in everything),
        "discovery_after_kill_s": {
            "median": round(statistics.median(discovery_s), 3),
            "max": round(max(discovery_s), 3),
        }
        if discovery_s
        else None,
        "by_kind": {
            kind: {"n": len(v), "median_s": round(statistics.median(v), 3), "max_s": round(max(v), 3)}
            for kind, v in sorted(recoveries.items())
        },
        "threads": {"first": threads[0], "last": threads[-1], "max": max(threads)},
        "memory_mib": {
            "first": round(memory[0], 1),
            "last": round(memory[-1], 1),
            "medians_of_quarters": [round(statistics.median(quarter), 1) for quarter in quarters],
            "max": round(max(memory), 1),
        },
        "stops_heard": stops,
        "guard": guard,
        "counters": counters,
    }


def _sums(counts: list[dict[str, int]]) -> dict[str, int]:
    return {key: sum(count.get(key, 0) for count in counts) for key in dict.fromkeys(key for c in counts for key in c)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=200)
    parser.add_argument("--minutes", type=float, help="inject so many again and again, until these are over")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reliable", action="store_true", help="the robot hears commands as reliable, as by default")
    parser.add_argument("--unguarded", action="store_true", help="leave out the guard between the server and the robot")
    parser.add_argument("--json", action="store_true", help="print the figures only, as JSON")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end what was started
    figures = run(
        options.injections,
        options.seed,
        lambda text: print(text, file=sys.stderr, flush=True),
        reliable=options.reliable,
        guarded=not options.unguarded,
        minutes=options.minutes,
    )
    print(json.dumps(figures, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
