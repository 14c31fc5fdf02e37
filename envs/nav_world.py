"""The robot and its arena in MuJoCo: a layout is placed, velocities go in, a labelled scan comes out.

This is the physical half of the navigation task, without instructions, rewards or gymnasium, so that a
simulated robot can be driven by anything. The model is compiled once per process: objects are mocap
bodies, and a new layout only moves them.

Frames: x forward, y left, angles anticlockwise; metres, radians, seconds.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import mujoco
import numpy as np

from envs.nav_language import COLORS, SHAPES

ARENA = 5.0  # side, wall to wall
WALL_HEIGHT = 0.6
CLASSES = len(COLORS) * len(SHAPES)  # object labels are colour * 3 + shape
WALL_LABEL = CLASSES
NOTHING_LABEL = CLASSES + 1

RAYS = 31
FIELD_OF_VIEW = 2 * math.pi / 3
MAX_RANGE = 4.0
SCAN_HEIGHT = 0.15
#: Bearings of the rays: ray 0 looks 60 degrees to the left.
RAY_ANGLES = np.linspace(FIELD_OF_VIEW / 2, -FIELD_OF_VIEW / 2, RAYS)

WHEEL_RADIUS = 0.033
HALF_TRACK = 0.08
ROBOT_RADIUS = 0.10
MAX_LINEAR = 0.6
# gymnasium's checker asks for |bound| <= 1, and 1 rad/s is a usual limit of small robots
MAX_ANGULAR = 1.0
#: No wheel turns faster than this, rad/s: both limits at once need 20.6, the rest is for slip.
MAX_WHEEL_SPEED = 30.0

TICK_S = 0.1
_TIMESTEP = 0.01
_SUBSTEPS = round(TICK_S / _TIMESTEP)

MIN_SEPARATION = 0.9  # between objects, and between objects and the robot's start
_PLACEMENT_HALF = 2.0  # objects and the start lie within this of the centre
_PARKED = 20.0  # absent objects wait outside the walls, out of reach of every ray

#: Half sizes of a box, radius of a ball, base radius and height of a cone.
BOX_HALF = (0.15, 0.15, 0.2)
BALL_RADIUS = 0.2
CONE_RADIUS = 0.2
CONE_HEIGHT = 0.5


@dataclass(frozen=True)
class Placed:
    """An object of scan class `label` standing at (x, y), turned by `theta`."""

    label: int
    x: float
    y: float
    theta: float = 0.0


@dataclass(frozen=True)
class Layout:
    """Where everything is at the start of an episode."""

    objects: tuple[Placed, ...]
    x: float
    y: float
    theta: float


def sample_layout(rng: np.random.Generator, labels: tuple[int, ...]) -> Layout:
    """Places the objects and the robot at random, all at least `MIN_SEPARATION` apart."""
    spots: list[tuple[float, float]] = []
    while len(spots) <= len(labels):
        x, y = rng.uniform(-_PLACEMENT_HALF, _PLACEMENT_HALF, 2).tolist()
        if all(math.hypot(x - u, y - v) > MIN_SEPARATION for u, v in spots):
            spots.append((x, y))
    turns = rng.uniform(-math.pi, math.pi, len(spots)).tolist()
    objects = tuple(Placed(k, x, y, a) for k, (x, y), a in zip(labels, spots, turns, strict=False))
    return Layout(objects, *spots[-1], turns[-1])


class NavWorld:
    """One arena with one robot. `place` starts it, `step` advances one tick of `TICK_S`.

    Attributes:
        layout: what was placed.
        collisions: how often the robot has bumped into something since `place` (ticks in contact that
            follow a tick without).

    Example:
        >>> world = NavWorld()
        >>> world.place(Layout((Placed(0, 1.0, 0.0),), 0.0, 0.0, 0.0))
        >>> ranges, labels = world.scan()
        >>> int(labels[15]), round(float(ranges[15]), 2)
        (0, 0.81)
    """

    def __init__(self) -> None:
        self._compiled = _compile()
        self._model = self._compiled.model
        self._data = mujoco.MjData(self._model)
        self._hit = np.zeros(RAYS, np.int32)
        self._distance = np.zeros(RAYS)
        self._directions = np.zeros((RAYS, 3))
        self._flat_directions = self._directions.reshape(-1)
        self._origin = np.array([0.0, 0.0, SCAN_HEIGHT])
        self._groups = np.array([1, 0, 0, 0, 0, 0], np.uint8)
        # views into the simulator's memory: reading an attribute of MjData costs as much as a ray
        self._qpos, self._qvel, self._ctrl = self._data.qpos, self._data.qvel, self._data.ctrl
        # newer simulators also return surface normals and take an array (or None) for them
        self._ray_extra = (None,) if "normal" in (mujoco.mj_multiRay.__doc__ or "") else ()
        self.layout = Layout((), 0.0, 0.0, 0.0)
        self.collisions = 0
        self._touching = False

    def place(self, layout: Layout) -> None:
        """Puts every object and the resting robot where `layout` says."""
        data = self._data
        mujoco.mj_resetData(self._model, data)
        for placed in layout.objects:
            data.mocap_pos[placed.label, :2] = placed.x, placed.y
            data.mocap_quat[placed.label] = math.cos(placed.theta / 2), 0, 0, math.sin(placed.theta / 2)
        self._qpos[:7] = layout.x, layout.y, WHEEL_RADIUS, math.cos(layout.theta / 2), 0, 0, math.sin(layout.theta / 2)
        mujoco.mj_forward(self._model, data)
        self.layout = layout
        self.collisions = 0
        self._touching = False

    def step(self, linear: float, angular: float) -> None:
        """Drives for one tick with the commanded velocities (m/s, rad/s), clipped to the robot's limits.

        Raises:
            ValueError: a velocity is not finite.
        """
        if not (math.isfinite(linear) and math.isfinite(angular)):
            raise ValueError(f"velocities must be finite, got linear={linear}, angular={angular}")
        v = min(MAX_LINEAR, max(0.0, linear))
        w = min(MAX_ANGULAR, max(-MAX_ANGULAR, angular))
        ctrl = self._ctrl
        ctrl[0] = (v - w * HALF_TRACK) / WHEEL_RADIUS
        ctrl[1] = (v + w * HALF_TRACK) / WHEEL_RADIUS
        mujoco.mj_step(self._model, self._data, nstep=_SUBSTEPS)
        touching = self._in_contact()
        self.collisions += touching and not self._touching
        self._touching = touching

    def scan(self) -> tuple[np.ndarray, np.ndarray]:
        """`(ranges, labels)`: float32 (31,) metres in [0, 4] and int64 (31,) classes, fresh arrays."""
        x, y, theta = self.pose()
        origin, directions, distance, hit = self._origin, self._directions, self._distance, self._hit
        origin[0] = x
        origin[1] = y
        cos, sin = math.cos(theta), math.sin(theta)
        np.matmul(_RAY_VECTORS, ((cos, sin), (-sin, cos)), out=directions[:, :2])
        mujoco.mj_multiRay(
            self._model, self._data, origin, self._flat_directions, self._groups, 1, self._compiled.robot,
            hit, distance, *self._ray_extra, RAYS, MAX_RANGE,
        )  # fmt: skip
        # a miss is -1 and depends on the version beyond the cutoff: either way the geom decides the label
        missed = (hit < 0) | (distance >= MAX_RANGE)
        labels = self._compiled.label_of_geom[hit]
        ranges = distance.astype(np.float32)
        labels[missed] = NOTHING_LABEL
        ranges[missed] = MAX_RANGE
        return ranges, labels

    def wheel_velocities(self) -> np.ndarray:
        """Left and right, rad/s, float32 (2,)."""
        wheels = np.empty(2, np.float32)
        wheels[0] = min(MAX_WHEEL_SPEED, max(-MAX_WHEEL_SPEED, self._qvel[6]))
        wheels[1] = min(MAX_WHEEL_SPEED, max(-MAX_WHEEL_SPEED, self._qvel[7]))
        return wheels

    def pose(self) -> tuple[float, float, float]:
        """True x, y, theta, with theta in (-pi, pi]."""
        x, y, _, qw, qx, qy, qz = self._qpos[:7].tolist()
        return x, y, math.atan2(2 * (qw * qz + qx * qy), 1 - 2 * (qy * qy + qz * qz))

    def speeds(self) -> tuple[float, float]:
        """True (forward speed m/s without sign, turn rate rad/s)."""
        vx, vy, _, _, _, wz = self._qvel[:6].tolist()
        return math.hypot(vx, vy), wz

    @property
    def touching(self) -> bool:
        """Whether the robot's body is pressed against a wall or an object."""
        return self._touching

    def _in_contact(self) -> bool:
        # wheels and casters make at most four contacts with the floor; most ticks end here or at three
        data = self._data
        if data.ncon < 3:
            return False
        return bool((data.contact.geom == self._compiled.chassis).any())


_RAY_VECTORS = np.stack([np.cos(RAY_ANGLES), np.sin(RAY_ANGLES)], axis=1)


@dataclass(frozen=True)
class _Compiled:
    model: mujoco.MjModel
    robot: int  # body that rays ignore
    chassis: int  # geom that bumps into things
    label_of_geom: np.ndarray  # (geoms + 1,) int64; the last entry serves geom -1, a miss


@functools.cache
def _compile() -> _Compiled:
    model = mujoco.MjModel.from_xml_string(mjcf())
    label_of_geom = np.full(model.ngeom + 1, NOTHING_LABEL, np.int64)
    for i in range(4):
        label_of_geom[model.geom(f"wall{i}").id] = WALL_LABEL
    for label in range(CLASSES):
        label_of_geom[model.geom(f"object{label}").id] = label
        # `place` indexes mocap bodies by label
        assert model.body(f"object{label}").mocapid[0] == label
    return _Compiled(model, model.body("robot").id, model.geom("chassis").id, label_of_geom)


def mjcf() -> str:
    """The model. Collision bits: 1 = wheels and casters with the floor, 2 = chassis with walls and objects.

    Wheel odometry is to be trusted, so: motors that stall before a tyre slips (0.1 N m, grippy tyres), light
    wheels, so that the weak motors still answer within 0.3 s, a low centre of mass, and a front caster,
    3 mm above the floor, that catches the nose when braking. Cones collide as upright cylinders, which no
    robot climbs.
    """
    half, thick, tall = ARENA / 2, 0.05, WALL_HEIGHT / 2
    reach = half + 2 * thick
    sides = [(thick, half, half + thick, 0.0), (thick, half, -half - thick, 0.0)]
    sides += [(reach, thick, 0.0, half + thick), (reach, thick, 0.0, -half - thick)]
    walls = "".join(
        f'<geom name="wall{i}" type="box" size="{sx} {sy} {tall}" pos="{x} {y} {tall}" class="solid"/>'
        for i, (sx, sy, x, y) in enumerate(sides)
    )
    objects = "".join(
        f'<body name="object{label}" mocap="true" pos="{_PARKED + color} {_PARKED + shape} 0">'
        f"{_object_geoms(label, SHAPES[shape])}</body>"
        for label, (color, shape) in enumerate((c, s) for c in range(len(COLORS)) for s in range(len(SHAPES)))
    )
    rim = [(CONE_RADIUS * math.cos(a), CONE_RADIUS * math.sin(a)) for a in np.linspace(0, 2 * math.pi, 24, False)]
    cone = " ".join(f"{x:.5f} {y:.5f} 0" for x, y in rim) + f" 0 0 {CONE_HEIGHT}"
    wheels = "".join(
        f'<body name="{side}" pos="0 {y} 0"><joint name="{side}" type="hinge" axis="0 1 0" damping="0.001" '
        f'armature="0.0005"/><geom type="sphere" size="{WHEEL_RADIUS}" mass="0.05" class="rolling"/></body>'
        for side, y in (("wheel_left", HALF_TRACK), ("wheel_right", -HALF_TRACK))
    )
    casters = "".join(
        f'<geom type="sphere" size="0.014" pos="{x} 0 {-0.019 + lift}" mass="0.02" friction="0.01 0.005 0.0001" '
        'priority="1" class="rolling"/>'
        for x, lift in ((-0.085, 0.0), (0.075, 0.003))
    )
    motors = "".join(
        f'<velocity joint="{side}" kv="0.2" forcerange="-0.1 0.1"/>' for side in ("wheel_left", "wheel_right")
    )
    return f"""<mujoco model="nav">
  <option timestep="{_TIMESTEP}" integrator="implicitfast"/>
  <default>
    <geom friction="1.5 0.005 0.0001"/>
    <default class="solid"><geom contype="0" conaffinity="2"/></default>
    <default class="rolling"><geom contype="1" conaffinity="0"/></default>
  </default>
  <asset><mesh name="cone" vertex="{cone}"/></asset>
  <worldbody>
    <geom name="floor" type="plane" size="{half} {half} 0.1" contype="0" conaffinity="1"/>
    {walls}
    {objects}
    <body name="robot" pos="0 0 {WHEEL_RADIUS}">
      <freejoint/>
      <inertial pos="-0.015 0 0" mass="1.0" diaginertia="0.004 0.004 0.005"/>
      <geom name="chassis" type="cylinder" size="{ROBOT_RADIUS} 0.03" pos="-0.01 0 0.01" contype="2" conaffinity="0"
        friction="0.1 0.005 0.0001" priority="1"/>
      {casters}
      {wheels}
    </body>
  </worldbody>
  <actuator>{motors}</actuator>
</mujoco>"""


def _object_geoms(label: int, shape: str) -> str:
    if shape == "ball":
        return f'<geom name="object{label}" type="sphere" size="{BALL_RADIUS}" pos="0 0 {BALL_RADIUS}" class="solid"/>'
    if shape == "box":
        x, y, z = BOX_HALF
        return f'<geom name="object{label}" type="box" size="{x} {y} {z}" pos="0 0 {z}" class="solid"/>'
    # rays (group 0) see the cone, the chassis meets the cylinder (group 3)
    return (
        f'<geom name="object{label}" type="mesh" mesh="cone" contype="0" conaffinity="0"/>'
        f'<geom type="cylinder" size="{0.9 * CONE_RADIUS} 0.1" pos="0 0 0.1" group="3" class="solid"/>'
    )
