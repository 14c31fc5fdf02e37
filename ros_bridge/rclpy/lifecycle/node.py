"""`LifecycleNode`, as in `rclpy.lifecycle.node`: its services, its transition events and its callbacks."""

from __future__ import annotations

from typing import Any, NamedTuple

from ros_bridge.messages import load
from ros_bridge.rclpy.callback_groups import CallbackGroup
from ros_bridge.rclpy.exceptions import RCLError
from ros_bridge.rclpy.lifecycle._state_machine import Labelled, StateMachine, Transition, TransitionCallbackReturn
from ros_bridge.rclpy.lifecycle.managed_entity import ManagedEntity
from ros_bridge.rclpy.lifecycle.publisher import LifecyclePublisher
from ros_bridge.rclpy.node import Node

_CALLBACKS = {
    "configuring": "on_configure",
    "cleaningup": "on_cleanup",
    "shuttingdown": "on_shutdown",
    "activating": "on_activate",
    "deactivating": "on_deactivate",
    "errorprocessing": "on_error",
}


class LifecycleState(NamedTuple):
    """What the callbacks are given: where the node came from."""

    label: str
    state_id: int


class LifecycleNodeMixin(ManagedEntity):
    """A node's life, for a class that derives from `Node`, too. Managed entities follow its transitions."""

    def __init__(
        self, *, enable_communication_interface: bool = True, callback_group: CallbackGroup | None = None
    ) -> None:
        self._managed_entities: list[ManagedEntity] = []
        self._state_machine = StateMachine(self._notify)
        self._transition_events: Any = None
        if not enable_communication_interface:
            return
        node: Any = self
        self._transition_events = node.create_publisher(
            load("lifecycle_msgs/msg/TransitionEvent"), "~/transition_event", 10
        )
        for type_name, service, callback in (
            ("ChangeState", "change_state", self._on_change_state),
            ("GetState", "get_state", self._on_get_state),
            ("GetAvailableStates", "get_available_states", self._on_get_available_states),
            ("GetAvailableTransitions", "get_available_transitions", self._on_get_available_transitions),
            ("GetAvailableTransitions", "get_transition_graph", self._on_get_transition_graph),
        ):
            kind = load(f"lifecycle_msgs/srv/{type_name}")
            node.create_service(kind, f"~/{service}", callback, callback_group=callback_group)

    # -- transitions ---------------------------------------------------------------------------

    def trigger_configure(self) -> TransitionCallbackReturn:
        """From unconfigured; `RCLError` from elsewhere."""
        return self._change_state("configure")

    def trigger_cleanup(self) -> TransitionCallbackReturn:
        """From inactive; `RCLError` from elsewhere."""
        return self._change_state("cleanup")

    def trigger_shutdown(self) -> TransitionCallbackReturn:
        """From unconfigured, inactive or active; `RCLError` from elsewhere."""
        if self._state_machine.current_state[1] not in ("unconfigured", "inactive", "active"):
            raise RCLError("Shutdown transtion not possible")
        return self._change_state("shutdown")

    def trigger_activate(self) -> TransitionCallbackReturn:
        """From inactive; `RCLError` from elsewhere."""
        return self._change_state("activate")

    def trigger_deactivate(self) -> TransitionCallbackReturn:
        """From active; `RCLError` from elsewhere."""
        return self._change_state("deactivate")

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Those of the managed entities; the first that does not succeed decides."""
        return self._ask_entities("on_configure", state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `on_configure`."""
        return self._ask_entities("on_cleanup", state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `on_configure`."""
        return self._ask_entities("on_shutdown", state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `on_configure`."""
        return self._ask_entities("on_activate", state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `on_configure`."""
        return self._ask_entities("on_deactivate", state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """See `on_configure`."""
        return self._ask_entities("on_error", state)

    # -- entities ------------------------------------------------------------------------------

    def add_managed_entity(self, entity: ManagedEntity) -> None:
        """Let `entity` follow the transitions."""
        if not isinstance(entity, ManagedEntity):
            raise TypeError("Expected a rclpy.lifecycle.ManagedEntity instance.")
        if entity not in self._managed_entities:
            self._managed_entities.append(entity)

    def create_lifecycle_publisher(self, *args: Any, **kwargs: Any) -> LifecyclePublisher:
        """`create_publisher`, for one that publishes while the node is active."""
        if "publisher_class" in kwargs:
            raise TypeError("create_publisher() got an unexpected keyword argument 'publisher_class'")
        node: Any = self
        publisher = Node.create_publisher(node, *args, **kwargs, publisher_class=LifecyclePublisher)
        assert isinstance(publisher, LifecyclePublisher)
        self._managed_entities.append(publisher)
        return publisher

    def destroy_lifecycle_publisher(self, publisher: LifecyclePublisher) -> bool:
        """Whether it was this node's."""
        if publisher in self._managed_entities:
            self._managed_entities.remove(publisher)
        node: Any = self
        return Node.destroy_publisher(node, publisher)

    # -- inside --------------------------------------------------------------------------------

    def _ask_entities(self, name: str, state: LifecycleState) -> TransitionCallbackReturn:
        for entity in self._managed_entities:
            outcome = getattr(entity, name)(state)
            if not isinstance(outcome, TransitionCallbackReturn):
                raise TypeError(
                    f"{name}() return value of class {type(entity)} should be `TransitionCallbackReturn`.\n"
                    f"Instance of the class that caused the failure: {entity}"
                )
            if outcome is not TransitionCallbackReturn.SUCCESS:
                return outcome
        return TransitionCallbackReturn.SUCCESS

    def _change_state(self, transition: int | str) -> TransitionCallbackReturn:
        number, label = self._state_machine.current_state
        came_from = LifecycleState(state_id=number, label=label)
        self._state_machine.trigger(transition)
        outcome = self._run_callback(came_from)
        self._state_machine.trigger(outcome.to_label())
        if outcome is TransitionCallbackReturn.ERROR:
            self._state_machine.trigger(self._run_callback(came_from).to_label())
        return outcome

    def _run_callback(self, came_from: LifecycleState) -> TransitionCallbackReturn:
        try:
            callback = getattr(self, _CALLBACKS[self._state_machine.current_state[1]])
            return TransitionCallbackReturn(callback(came_from))
        except Exception:  # as in rclpy: an exception is an error of the transition
            return TransitionCallbackReturn.ERROR

    def _notify(self, start: Labelled, goal: Labelled) -> None:
        if self._transition_events is not None:
            event = load("lifecycle_msgs/msg/TransitionEvent")()
            event.start_state.id, event.start_state.label = start
            event.goal_state.id, event.goal_state.label = goal
            self._transition_events.publish(event)

    def _on_change_state(self, request: Any, response: Any) -> Any:
        transition: int = request.transition.id
        if request.transition.label:
            try:
                transition = self._state_machine.get_transition_by_label(request.transition.label)
            except RCLError:
                response.success = False
                return response
        response.success = self._change_state(transition) is TransitionCallbackReturn.SUCCESS
        return response

    def _on_get_state(self, request: Any, response: Any) -> Any:
        response.current_state.id, response.current_state.label = self._state_machine.current_state
        return response

    def _on_get_available_states(self, request: Any, response: Any) -> Any:
        state = load("lifecycle_msgs/msg/State")
        response.available_states = [state(id=i, label=label) for i, label in self._state_machine.available_states]
        return response

    def _on_get_available_transitions(self, request: Any, response: Any) -> Any:
        response.available_transitions = [_describe(t) for t in self._state_machine.available_transitions]
        return response

    def _on_get_transition_graph(self, request: Any, response: Any) -> Any:
        response.available_transitions = [_describe(t) for t in self._state_machine.transition_graph]
        return response


class LifecycleNode(LifecycleNodeMixin, Node):
    """A node with a life: unconfigured, inactive, active, finalized."""

    def __init__(self, node_name: str, *, enable_communication_interface: bool = True, **kwargs: Any) -> None:
        Node.__init__(self, node_name, **kwargs)
        LifecycleNodeMixin.__init__(self, enable_communication_interface=enable_communication_interface)


def _describe(transition: Transition) -> Any:
    message = load("lifecycle_msgs/msg/TransitionDescription")()
    for part, (number, label) in zip(
        (message.transition, message.start_state, message.goal_state),
        (transition[:2], transition[2:4], transition[4:]),
        strict=True,
    ):
        part.id, part.label = number, label
    return message
