"""The minimal publisher and subscriber."""

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String


class MinimalPublisher(Node):
    def __init__(self):
        super().__init__("minimal_publisher")
        self.publisher_ = self.create_publisher(String, "topic", 10)
        self.timer = self.create_timer(0.05, self.timer_callback)
        self.i = 0

    def timer_callback(self):
        msg = String()
        msg.data = f"Hello World: {self.i}"
        self.publisher_.publish(msg)
        self.i += 1


class MinimalSubscriber(Node):
    def __init__(self):
        super().__init__("minimal_subscriber")
        self.subscription = self.create_subscription(String, "topic", self.listener_callback, 10)
        self.heard = []

    def listener_callback(self, msg):
        self.heard.append(int(msg.data.rpartition(" ")[2]))


def main(args=None):
    rclpy.init(args=args)
    publisher, subscriber = MinimalPublisher(), MinimalSubscriber()
    executor = SingleThreadedExecutor()
    executor.add_node(publisher)
    executor.add_node(subscriber)
    while len(subscriber.heard) < 5:
        executor.spin_once(timeout_sec=1.0)
    first = subscriber.heard[0]
    print("heard in order:", [i - first for i in subscriber.heard[:5]])
    print("topic:", publisher.publisher_.topic_name, subscriber.subscription.topic_name)
    try:
        publisher.publisher_.publish("text")
    except TypeError as error:
        print("TypeError:", error)
    publisher.destroy_node()
    subscriber.destroy_node()
    rclpy.shutdown()
    print("ok:", rclpy.ok())


if __name__ == "__main__":
    main()
