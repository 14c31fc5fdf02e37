"""Episodes recorded from a robot that somebody else drives: an operator's joystick, a policy node.

The recorder commands nothing. Beside the robot's topics it has, in its namespace `/recorder`:

    /recorder/begin  std_srvs/Trigger   an episode begins; one that is under way ends
    /recorder/end    std_srvs/SetBool   the episode ends, with success or without
    /episode         std_msgs/String    what it made of both, for bags that are recorded at the same time
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mcsd_agent.errors import UserError
from ros_bridge.backend import NATIVE, QoSProfile, load
from ros_bridge.bag_episodes import ENDINGS, EPISODE_TOPIC
from ros_bridge.recording import DrivenEpisode, EpisodeRecorder
from ros_bridge.robot_config import RobotConfig
from ros_bridge.ros_link import RosLink

_QUEUE = 50  # messages that may wait: none may be left out, and a moment's delay does no harm
_POLL_S = 0.1


class LiveRecorder:
    """Records until `close`; `episodes()` hands over what is finished.

    Args:
        config: the robot.
        url: of the rosbridge server, see `RosLink`.
        native: whether to be on rclpy; the process must have chosen so, see `backend`.
        by_instruction: whether instructions begin and end episodes, beside the services.

    Raises `UserError` when the server cannot be reached.
    """

    def __init__(
        self, config: RobotConfig, *, by_instruction: bool, url: str | None = None, native: bool = False
    ) -> None:
        if native != NATIVE:
            raise UserError(f"native={native}: this process has chosen the other backend already; start a fresh one")
        self.config = config
        self._finished: queue.SimpleQueue[DrivenEpisode] = queue.SimpleQueue()
        self._recorder = EpisodeRecorder(config, self._finished.put, by_instruction=by_instruction)
        self._heard: Counter[str] = Counter()
        self._link = RosLink(config, "recorder", url=url)
        self._marks = self._link.node.create_publisher(load("std_msgs/msg/String"), EPISODE_TOPIC, QoSProfile(depth=10))
        for name, observation in config.observations.items():
            receive = self._receiver(name)
            self._link.subscribe(observation.topic, observation.message_type, receive, sensor=True, depth=_QUEUE)
        action = config.action
        self._link.subscribe(action.topic, action.message, self._on_command, depth=_QUEUE)
        if config.instruction is not None:
            self._link.subscribe(config.instruction.topic, "std_msgs/msg/String", self._on_words, depth=_QUEUE)
        self._link.node.create_service(load("std_srvs/srv/Trigger"), "/recorder/begin", self._on_begin)
        self._link.node.create_service(load("std_srvs/srv/SetBool"), "/recorder/end", self._on_end)

    @property
    def dropped(self) -> Counter[str]:
        """What became no episode or no observation, by reason."""
        return self._recorder.dropped

    @property
    def silent(self) -> list[str]:
        """Topics of the robot's YAML on which nothing has come yet."""
        topics = {o.topic for o in self.config.observations.values()} | {self.config.action.topic}
        return sorted(topics - set(self._heard))

    def episodes(
        self, stop: threading.Event, limit: int | None = None, seconds: float | None = None
    ) -> Iterator[DrivenEpisode]:
        """Finished episodes as they come, until `stop` is set, or after `limit` episodes or `seconds`.

        Then it closes, and hands over the one that was under way.
        """
        end = None if seconds is None else time.monotonic() + seconds
        count = 0
        while not stop.is_set() and (limit is None or count < limit) and (end is None or time.monotonic() < end):
            try:
                episode = self._finished.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            count += 1
            yield episode
        self.close()
        while not self._finished.empty() and (limit is None or count < limit):
            count += 1
            yield self._finished.get()

    def close(self) -> None:
        """End the episode under way, and leave. The robot goes on. May be called twice."""
        self._link.close()
        self._recorder.end(time.monotonic())

    # -- on the link's thread ----------------------------------------------------------------------

    def _receiver(self, name: str) -> Any:
        topic = self.config.observations[name].topic

        def receive(message: Any) -> None:
            self._heard[topic] += 1
            self._recorder.observe(name, time.monotonic(), message)

        return receive

    def _on_command(self, message: Any) -> None:
        self._heard[self.config.action.topic] += 1
        self._recorder.command(time.monotonic(), message)

    def _on_words(self, message: Any) -> None:
        self._recorder.instruct(time.monotonic(), message.data)

    def _on_begin(self, request: Any, response: Any) -> Any:
        self._recorder.begin(time.monotonic())
        self._mark("begin")
        response.success, response.message = True, "recording"
        return response

    def _on_end(self, request: Any, response: Any) -> Any:
        response.success = self._recorder.under_way
        response.message = "recorded" if response.success else "no episode is under way; call /recorder/begin first"
        self._recorder.end(time.monotonic(), bool(request.data))
        self._mark(next(word for word, success in ENDINGS.items() if success is bool(request.data)))
        return response

    def _mark(self, word: str) -> None:
        self._marks.publish(load("std_msgs/msg/String")(data=word))
