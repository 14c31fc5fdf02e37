"""The minimal service and client: asynchronous, with a callback, and from another thread."""

import threading

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_srvs.srv import Empty, SetBool


class MinimalService(Node):
    def __init__(self):
        super().__init__("minimal_service")
        self.srv = self.create_service(SetBool, "switch", self.switch)

    def switch(self, request, response):
        response.success = not request.data
        response.message = f"was {request.data}"
        return response


class MinimalClient(Node):
    def __init__(self):
        super().__init__("minimal_client")
        self.cli = self.create_client(SetBool, "switch")
        while not self.cli.wait_for_service(timeout_sec=1.0):
            self.get_logger().info("service not available, waiting again...")


def main():
    rclpy.init()
    service = MinimalService()
    executor = SingleThreadedExecutor()
    executor.add_node(service)
    ending = threading.Event()

    def serve():
        while not ending.is_set():
            executor.spin_once(timeout_sec=0.1)

    thread = threading.Thread(target=serve)
    thread.start()
    client = MinimalClient()

    future = client.cli.call_async(SetBool.Request(data=True))
    rclpy.spin_until_future_complete(client, future)
    print("async:", future.result())

    said = []
    future = client.cli.call_async(SetBool.Request(data=False))
    future.add_done_callback(lambda f: said.append(f.result().message))
    rclpy.spin_until_future_complete(client, future, timeout_sec=5.0)
    while not said:
        rclpy.spin_once(client, timeout_sec=1.0)
    print("callback:", said)

    got = []
    caller = threading.Thread(target=lambda: got.append(client.cli.call(SetBool.Request(data=True))))
    caller.start()
    while not got:
        rclpy.spin_once(client, timeout_sec=0.1)
    caller.join()
    print("synchronous:", got)
    print("names:", service.srv.service_name, client.cli.service_name, client.cli.service_is_ready())

    nobody = client.create_client(Empty, "nobody")
    print("nobody there:", nobody.wait_for_service(timeout_sec=0.3), nobody.service_is_ready())
    try:
        client.cli.call_async("text")
    except TypeError:
        print("TypeError")
    ending.set()
    thread.join()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
