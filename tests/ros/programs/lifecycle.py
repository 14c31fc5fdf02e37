"""A lifecycle node: transitions by hand and by service, a managed publisher, failures and errors, events."""

import rclpy
from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, State, TransitionCallbackReturn
from rclpy.node import Node
from std_msgs.msg import String


class Talker(LifecycleNode):
    def __init__(self, name, **kwargs):
        super().__init__(name, **kwargs)
        self.outcome = TransitionCallbackReturn.SUCCESS
        self.said = []

    def on_configure(self, state: State):
        self.said.append(f"configure from {state.label} {state.state_id}")
        self.publisher = self.create_lifecycle_publisher(String, "life", 10)
        return self.outcome

    def on_activate(self, state: State):
        self.said.append("activate")
        return super().on_activate(state) if self.outcome == TransitionCallbackReturn.SUCCESS else self.outcome

    def on_cleanup(self, state: State):
        self.said.append("cleanup")
        raise ValueError("cannot clean up")

    def on_error(self, state: State):
        self.said.append(f"error after {state.label}")
        return self.outcome

    def on_shutdown(self, state: State):
        self.said.append(f"shutdown from {state.label}")
        return TransitionCallbackReturn.SUCCESS


def main():
    rclpy.init()
    node = Talker("talker")
    watcher = Node("watcher")
    events = []
    watcher.create_subscription(TransitionEvent, "/talker/transition_event", events.append, 100)
    change = watcher.create_client(ChangeState, "/talker/change_state")
    get = watcher.create_client(GetState, "/talker/get_state")
    states = watcher.create_client(GetAvailableStates, "/talker/get_available_states")
    transitions = watcher.create_client(GetAvailableTransitions, "/talker/get_available_transitions")
    graph = watcher.create_client(GetAvailableTransitions, "/talker/get_transition_graph")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(watcher)
    print("there:", [client.wait_for_service(10.0) for client in (change, get, states, transitions, graph)])

    def ask(client, request):
        future = client.call_async(request)
        executor.spin_until_future_complete(future, timeout_sec=10.0)
        return future.result()

    print("state:", ask(get, GetState.Request()).current_state)
    print("states:", ask(states, GetAvailableStates.Request()).available_states)
    print("transitions:", ask(transitions, GetAvailableTransitions.Request()).available_transitions)
    print("graph:", ask(graph, GetAvailableTransitions.Request()).available_transitions)
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    print("configure:", ask(change, request).success, ask(get, GetState.Request()).current_state)
    print("published while inactive:", node.publisher.is_activated, node.publisher.publish(String(data="x")))
    print("by label:", ask(change, ChangeState.Request(transition=Transition(label="activate"))).success)
    print("bad label:", ask(change, ChangeState.Request(transition=Transition(label="configure"))).success)
    print("active:", ask(get, GetState.Request()).current_state, node.publisher.is_activated)
    try:
        node.trigger_configure()
    except RuntimeError as error:
        print(type(error).__name__)
    print("by hand:", node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS, node.publisher.is_activated)
    node.outcome = TransitionCallbackReturn.FAILURE
    print("refused:", ask(change, ChangeState.Request(transition=Transition(label="activate"))).success)
    node.outcome = TransitionCallbackReturn.SUCCESS
    print("still:", ask(get, GetState.Request()).current_state)
    print(
        "error:", node.trigger_cleanup() == TransitionCallbackReturn.ERROR, ask(get, GetState.Request()).current_state
    )
    print("shutdown:", node.trigger_shutdown() == TransitionCallbackReturn.SUCCESS)
    print("end:", ask(get, GetState.Request()).current_state)
    for _ in range(300):
        if events and events[-1].goal_state.label == "finalized":
            break
        executor.spin_once(timeout_sec=0.02)
    # The first events may precede discovery.
    print("events:", [(e.start_state.label, e.goal_state.label) for e in events][-6:])
    print("said:", node.said)
    print("destroyed:", node.destroy_lifecycle_publisher(node.publisher))
    quiet = Talker("quiet", enable_communication_interface=False)
    print("quiet:", [s.srv_name for s in quiet.services if "state" in s.srv_name], quiet.trigger_configure().name)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
