"""Messages, quality of service, times and durations: defaults, arithmetic, comparison, refusals.

Native classes check their fields where ROS_PYTHON_CHECK_FIELDS=1; ours always do.
"""

import warnings

from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import Pose, Twist, Vector3
from rclpy.clock import ClockType
from rclpy.duration import Duration, Infinite
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    InvalidQoSProfileException,
    QoSPresetProfiles,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.time import Time
from sensor_msgs.msg import Image, JointState, NavSatStatus
from std_msgs.msg import ColorRGBA, Float64, String
from std_srvs.srv import SetBool


def refused(label, function):
    try:
        print(label, "gives", function())
    except Exception as error:
        names = [c.__name__ for c in type(error).__mro__ if c.__module__ == "builtins"]
        print(label, "raises", names[0])


def main():
    warnings.simplefilter("ignore")
    for message in (Twist(), Pose(), JointState(name=["a"]), Image(encoding="x"), NavSatStatus(), SetBool.Response()):
        print(message)
    print(Twist() == Twist(), Twist(linear=Vector3(x=1.0)) == Twist(), String(data="a") == Float64())
    print(Twist.get_fields_and_field_types(), NavSatStatus.STATUS_FIX)
    state = JointState(position=[1.0, 2.0])
    print([float(value) for value in state.position], type(state.name).__name__, len(state.velocity))
    refused("unknown field", lambda: Twist(lin=1))
    refused("int for float", lambda: Float64(data=1))
    refused("text for float", lambda: Float64(data="1"))
    refused("number for text", lambda: String(data=1))
    refused("too large", lambda: Image(height=2**32))
    refused("float32", lambda: ColorRGBA(r=1e39))
    refused("list of text", lambda: JointState(name=[1]))
    refused("nested", lambda: Twist(linear=1))
    refused("new attribute", lambda: setattr(Twist(), "lin", 1))

    t = Time(seconds=2, nanoseconds=500)
    print(t, t.seconds_nanoseconds(), t.to_msg(), t + Duration(seconds=1.5), t - Duration(nanoseconds=500))
    print(Time(seconds=5) - t, Time.from_msg(TimeMsg(sec=3, nanosec=4)), Time(seconds=1) < t, t == Time(seconds=2))
    print(Duration(seconds=-1.5), str(Duration(seconds=1)), str(Infinite), Duration(seconds=1).to_msg())
    print(Duration(seconds=1) < Duration(seconds=2), Duration.from_msg(Duration(seconds=1).to_msg()))
    refused("other clock", lambda: t - Time(clock_type=ClockType.STEADY_TIME))
    refused("compare clocks", lambda: t < Time(clock_type=ClockType.STEADY_TIME))
    refused("negative", lambda: Time(seconds=-1))
    refused("below zero", lambda: Time() - Duration(seconds=1))
    refused("too far", lambda: Time(seconds=2**40))
    refused("plus one", lambda: t + 1)
    refused("bad message", lambda: Time.from_msg(3))

    profile = QoSProfile(
        depth=5, reliability=ReliabilityPolicy.BEST_EFFORT, durability=DurabilityPolicy.TRANSIENT_LOCAL
    )
    print(profile, profile == QoSProfile(depth=5), profile == profile)
    for preset in QoSPresetProfiles:
        print(preset.name, preset.value)
    print(QoSPresetProfiles.short_keys(), QoSPresetProfiles.get_from_short_key("sensor_data"))
    print(ReliabilityPolicy.short_keys(), HistoryPolicy.KEEP_ALL.short_key, qos_policy_name_from_kind(2))
    try:
        QoSProfile()
    except InvalidQoSProfileException as error:
        print(error)
    refused("no depth", lambda: QoSProfile(history=HistoryPolicy.KEEP_LAST))
    refused("unknown policy", lambda: QoSProfile(depth=1, speed=2))
    refused("bad deadline", lambda: QoSProfile(depth=1, deadline=3))


if __name__ == "__main__":
    main()
