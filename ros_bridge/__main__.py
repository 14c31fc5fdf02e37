"""`python -m ros_bridge program.py [arguments]`: run a program written for rclpy over rosbridge, without ROS.

    python -m ros_bridge --url ws://robot:9090 --interfaces my_interfaces talker.py --ros-args -r chatter:=talk

`--interfaces` names a folder (or file) with `package/msg/Name.msg` and the like, and may be given again.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from mcsd_agent.errors import UserError
from ros_bridge import imports, messages
from ros_bridge.address import URL_VARIABLE

_USAGE = "usage: python -m ros_bridge [--url URL] [--interfaces PATH]... PROGRAM [ARGUMENTS]..."


def main(arguments: list[str]) -> None:
    """Run the program that `arguments` name; raises `UserError` for arguments that make no sense."""
    while arguments and arguments[0] in ("--url", "--interfaces"):
        if len(arguments) < 2:
            raise UserError(f"{arguments[0]} needs a value; {_USAGE}")
        option, value, *arguments = arguments
        if option == "--url":
            os.environ[URL_VARIABLE] = value
        else:
            messages.register_files(value)
    if not arguments or not Path(arguments[0]).is_file():
        raise UserError(f"no program {arguments[0]!r}; {_USAGE}" if arguments else _USAGE)
    imports.install()
    sys.argv = arguments
    sys.path[0] = str(Path(arguments[0]).resolve().parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
