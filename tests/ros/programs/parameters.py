"""Parameters: declared, described, set, refused, with callbacks; overrides from the command line and a file."""

import sys
import warnings

import rclpy
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.parameter import Parameter


def attempt(label, function):
    try:
        result = function()
    except (ParameterException, TypeError, ValueError) as error:
        print(label, type(error).__name__, error)
    else:
        if isinstance(result, Parameter):
            result = (result.name, result.type_, result.value)
        if isinstance(result, list):
            result = [(r.successful, r.reason) if isinstance(r, SetParametersResult) else r for r in result]
        if isinstance(result, SetParametersResult):
            result = (result.successful, result.reason)
        print(label, result)


def main():
    warnings.simplefilter("ignore")
    rclpy.init(args=sys.argv)
    node = Node("tuned", namespace="/arm", parameter_overrides=[Parameter("given", value=7)])
    ranged = ParameterDescriptor(description="a gain", integer_range=[IntegerRange(from_value=0, to_value=10, step=5)])
    real = ParameterDescriptor(floating_point_range=[FloatingPointRange(from_value=-1.0, to_value=1.0, step=0.5)])
    constant = ParameterDescriptor(read_only=True)
    loose = ParameterDescriptor(dynamic_typing=True)
    attempt("declare", lambda: node.declare_parameter("speed", 1.5))
    attempt("override", lambda: node.declare_parameter("rate", 10))
    attempt("ignored", lambda: node.declare_parameter("limits.low", -1.0, ignore_override=True))
    attempt("nested", lambda: node.declare_parameter("limits.high", 1.0))
    attempt("constructor", lambda: node.declare_parameter("given", 1))
    attempt("names", lambda: node.declare_parameter("names", ["a", "b"]))
    attempt("wrong type", lambda: node.declare_parameter("mode", 3))
    attempt("by type", lambda: node.declare_parameter("late", Parameter.Type.INTEGER))
    attempt("unset", lambda: node.get_parameter("late"))
    attempt("set late", lambda: node.set_parameters([Parameter("late", value=4)]))
    attempt("ranged", lambda: node.declare_parameter("gain", 5, ranged))
    attempt("real", lambda: node.declare_parameter("trim", 0.5, real))
    attempt("constant", lambda: node.declare_parameter("robot", "r2", constant))
    attempt("loose", lambda: node.declare_parameter("anything", None, loose))
    attempt("twice", lambda: node.declare_parameter("speed", 2.0))
    attempt("empty name", lambda: node.declare_parameter("", 2.0))
    attempt("no type", lambda: node.declare_parameter("nothing", None, ParameterDescriptor()))
    group = [("a", 1), ("b", "x"), ("c", 2.0, real)]
    attempt("many", lambda: [p.value for p in node.declare_parameters("group", group)])
    attempt("mixed list", lambda: node.declare_parameter("list", [1, "a"]))
    attempt("bytes", lambda: node.declare_parameter("raw", [b"\x01", b"\x02"]))
    attempt("unknown", lambda: node.get_parameter("missing"))
    attempt("or", lambda: node.get_parameter_or("missing", Parameter("missing", value=3)))
    attempt("types", lambda: node.get_parameter_types(["speed", "names", "late"]))
    for label, parameter in [
        ("int for double", Parameter("speed", value=2)),
        ("good", Parameter("speed", value=2.5)),
        ("out of range", Parameter("gain", value=11)),
        ("bad step", Parameter("gain", value=6)),
        ("good step", Parameter("gain", value=10)),
        ("real range", Parameter("trim", value=2.0)),
        ("real step", Parameter("trim", value=0.3)),
        ("real good", Parameter("trim", value=-0.5)),
        ("read only", Parameter("robot", value="r3")),
        ("loose int", Parameter("anything", value=3)),
        ("loose text", Parameter("anything", value="three")),
        ("unset static", Parameter("speed")),
        ("unset loose", Parameter("anything")),
        ("undeclared", Parameter("missing", value=1)),
    ]:
        attempt(label, lambda p=parameter: node.set_parameters([p]))
    both = [Parameter("speed", value=9.0), Parameter("gain", value=11)]
    attempt("atomic", lambda: node.set_parameters_atomically(both))
    attempt("unchanged", lambda: node.get_parameter("speed"))

    calls = []

    def before(parameters):
        calls.append(("pre", [p.name for p in parameters]))
        return [*parameters, Parameter("group.a", value=42)] if parameters[0].name == "speed" else parameters

    def check(parameters):
        calls.append(("on", [(p.name, p.value) for p in parameters]))
        bad = any(p.name == "speed" and p.value > 100 for p in parameters)
        return SetParametersResult(successful=not bad, reason="too fast" if bad else "")

    def after(parameters):
        calls.append(("post", [p.name for p in parameters]))

    node.add_pre_set_parameters_callback(before)
    node.add_on_set_parameters_callback(check)
    node.add_post_set_parameters_callback(after)
    attempt("callbacks", lambda: node.set_parameters([Parameter("speed", value=3.0)]))
    attempt("refused", lambda: node.set_parameters([Parameter("speed", value=300.0)]))
    attempt("declared", lambda: node.declare_parameter("new", 1))
    print(calls)
    node.remove_pre_set_parameters_callback(before)
    node.remove_on_set_parameters_callback(check)
    node.remove_post_set_parameters_callback(after)
    attempt("no callbacks", lambda: node.set_parameters([Parameter("speed", value=300.0)]))
    print("prefix", {k: p.value for k, p in node.get_parameters_by_prefix("group").items()})
    listed = node.list_parameters([], 0)
    print("list", sorted(n for n in listed.names if not n.startswith("start_")), sorted(listed.prefixes))
    print("depth", sorted(node.list_parameters(["group", "limits"], 1).names), node.list_parameters(["gain"], 1).names)
    attempt("undeclare", lambda: node.undeclare_parameter("new"))
    attempt("undeclare constant", lambda: node.undeclare_parameter("robot"))
    attempt("undeclare missing", lambda: node.undeclare_parameter("missing"))
    print("has", node.has_parameter("new"), node.has_parameter("speed"))
    print("describe", node.describe_parameter("gain"))
    attempt("descriptor", lambda: node.set_descriptor("speed", ParameterDescriptor(dynamic_typing=True)).type)
    attempt("now loose", lambda: node.set_parameters([Parameter("speed", value="fast")]))

    free = Node("free", allow_undeclared_parameters=True, automatically_declare_parameters_from_overrides=True)
    attempt("undeclared get", lambda: free.get_parameter("x"))
    attempt("undeclared set", lambda: free.set_parameters([Parameter("x", value=[1, 2])]))
    attempt("then get", lambda: free.get_parameter("x"))
    attempt("automatic", lambda: {k: p.value for k, p in free.get_parameters_by_prefix("limits").items()})
    for value in (Parameter("p", value=1.0), Parameter("p", Parameter.Type.STRING, "s")):
        print("message", value.to_parameter_msg())
    attempt("disagree", lambda: Parameter("p", Parameter.Type.INTEGER, "s"))
    attempt("not a type", lambda: Parameter("p", "integer", 3))
    node.destroy_node()
    free.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
