"""The ten tasks of Meta-World's MT10 in words, several wordings each."""

from __future__ import annotations

#: In Meta-World's order; there the names end in "-v3".
WORDINGS: dict[str, tuple[str, ...]] = {
    "reach": (
        "reach the target",
        "move the hand to the target",
        "bring the gripper to the goal",
        "go to the marked point and leave the puck alone",
        "touch the goal with your hand",
    ),
    "push": (
        "push the puck to the target",
        "slide the puck over the table to the goal",
        "shove the puck to the marked point",
        "move the puck to the target and keep it on the table",
        "the puck should be pushed to the goal",
    ),
    "pick-place": (
        "pick up the puck and place it at the target",
        "lift the puck to the goal",
        "grasp the puck and carry it to the marked point",
        "take the puck and hold it at the target",
        "pick the puck up and bring it to the goal",
    ),
    "door-open": (
        "open the door",
        "pull the door open",
        "swing the door open by its handle",
        "take the handle and open the door",
        "the door should be open",
    ),
    "drawer-open": (
        "open the drawer",
        "pull the drawer open",
        "pull out the drawer by its handle",
        "take the handle and draw the drawer out",
        "the drawer should be open",
    ),
    "drawer-close": (
        "close the drawer",
        "push the drawer shut",
        "shut the drawer",
        "push the drawer in until it is closed",
        "the drawer should be closed",
    ),
    "button-press-topdown": (
        "press the button from above",
        "push the button down",
        "press down the button on top of the box",
        "come from above and press the button",
        "the button should be pressed",
    ),
    "peg-insert-side": (
        "insert the peg into the hole",
        "put the peg into the hole from the side",
        "pick up the peg and stick it into the hole",
        "take the peg and slide it into the side of the box",
        "the peg belongs into the hole",
    ),
    "window-open": (
        "open the window",
        "slide the window open",
        "push the window open by its handle",
        "move the window to its open side",
        "the window should be open",
    ),
    "window-close": (
        "close the window",
        "slide the window shut",
        "push the window closed by its handle",
        "shut the window",
        "the window should be closed",
    ),
}
