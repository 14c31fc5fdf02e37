"""The simulated robot: its scan against independent geometry, its motion, its contacts."""

import math

import numpy as np
import pytest

from envs.nav_world import (
    ARENA,
    BALL_RADIUS,
    BOX_HALF,
    CONE_HEIGHT,
    CONE_RADIUS,
    HALF_TRACK,
    MAX_RANGE,
    MAX_WHEEL_SPEED,
    RAY_ANGLES,
    SCAN_HEIGHT,
    WALL_LABEL,
    WHEEL_RADIUS,
    Layout,
    NavWorld,
    Placed,
    sample_layout,
)


def circle_hit(x, y, dx, dy, cx, cy, radius):
    """Distance along the ray (x, y) + t (dx, dy) to a circle, inf for a miss."""
    ox, oy = x - cx, y - cy
    b = ox * dx + oy * dy
    discriminant = b * b - (ox * ox + oy * oy - radius * radius)
    t = -b - math.sqrt(discriminant) if discriminant >= 0 else math.inf
    return t if t > 0 else math.inf


def box_hit(x, y, dx, dy, placed, half_x, half_y):
    """The same for a turned rectangle, by slabs in its own frame."""
    cos, sin = math.cos(placed.theta), math.sin(placed.theta)
    ox, oy = cos * (x - placed.x) + sin * (y - placed.y), -sin * (x - placed.x) + cos * (y - placed.y)
    ux, uy = cos * dx + sin * dy, -sin * dx + cos * dy
    near, far = -math.inf, math.inf
    for o, u, half in ((ox, ux, half_x), (oy, uy, half_y)):
        low, high = sorted(((-half - o) / u, (half - o) / u))
        near, far = max(near, low), min(far, high)
    return near if 0 < near <= far else math.inf


def expected_ray(layout, x, y, angle):
    dx, dy = math.cos(angle), math.sin(angle)
    half = ARENA / 2
    best = min((half - x) / dx if dx > 0 else (-half - x) / dx, (half - y) / dy if dy > 0 else (-half - y) / dy)
    label = WALL_LABEL
    for placed in layout.objects:
        if placed.label % 3 == 0:
            radius = math.sqrt(BALL_RADIUS**2 - (SCAN_HEIGHT - BALL_RADIUS) ** 2)
            t = circle_hit(x, y, dx, dy, placed.x, placed.y, radius)
        elif placed.label % 3 == 1:
            t = box_hit(x, y, dx, dy, placed, BOX_HALF[0], BOX_HALF[1])
        else:
            t = circle_hit(x, y, dx, dy, placed.x, placed.y, CONE_RADIUS * (1 - SCAN_HEIGHT / CONE_HEIGHT))
        if t < best:
            best, label = t, placed.label
    return (best, label) if best < MAX_RANGE else (MAX_RANGE, 13)


def test_scan_agrees_with_analytic_geometry():
    world = NavWorld()
    compared = 0
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        layout = sample_layout(rng, tuple(rng.permutation(12)[:5].tolist()))
        world.place(layout)
        ranges, labels = world.scan()
        for i, angle in enumerate(RAY_ANGLES + layout.theta):
            aside = [expected_ray(layout, layout.x, layout.y, angle + d) for d in (-0.004, 0.0, 0.004)]
            if len({label for _, label in aside}) > 1:
                continue  # grazes an edge: either answer is right
            distance, label = aside[1]
            assert labels[i] == label
            # the cone is a polygon of 24 sides
            assert ranges[i] == pytest.approx(distance, abs=0.01 if label % 3 == 2 and label < 12 else 1e-4)
            compared += 1
            seen.add(label)
    assert compared > 0.8 * 60 * 31
    assert seen == set(range(14))


def test_first_ray_looks_left():
    world = NavWorld()
    world.place(Layout((Placed(0, 1.0, 1.5), Placed(4, 1.0, -1.5)), 0.0, 0.0, 0.0))
    _, labels = world.scan()
    assert 0 in labels[:8]
    assert 4 in labels[-8:]


def test_scan_is_float32_and_int64_within_range():
    world = NavWorld()
    world.place(sample_layout(np.random.default_rng(0), (0, 1, 2)))
    ranges, labels = world.scan()
    assert ranges.dtype == np.float32
    assert labels.dtype == np.int64
    assert ranges.min() >= 0
    assert ranges.max() <= MAX_RANGE


def test_scans_are_independent_arrays():
    world = NavWorld()
    world.place(Layout((), 0.0, 0.0, 0.0))
    first, labels = world.scan()
    first[:] = -1
    labels[:] = -1
    ranges, again = world.scan()
    assert ranges.min() > 0
    assert again.min() >= 0


@pytest.mark.parametrize(("linear", "angular"), [(0.6, 0.0), (0.3, 0.5), (0.0, -1.0), (0.2, 1.0)])
def test_robot_reaches_the_commanded_velocities(linear, angular):
    world = NavWorld()
    world.place(Layout((), 0.0, 0.0, 0.0))
    for _ in range(15):
        world.step(linear, angular)
    speed, turn_rate = world.speeds()
    left, right = world.wheel_velocities().tolist()
    assert speed == pytest.approx(linear, abs=0.02)
    assert turn_rate == pytest.approx(angular, abs=0.03)
    assert (left + right) / 2 * WHEEL_RADIUS == pytest.approx(linear, abs=0.02)
    assert (right - left) / 2 * WHEEL_RADIUS / HALF_TRACK == pytest.approx(angular, abs=0.05)


def test_positive_turn_rate_turns_left():
    world = NavWorld()
    world.place(Layout((), 0.0, 0.0, 0.0))
    for _ in range(10):
        world.step(0.0, 1.0)
    assert 0.7 < world.pose()[2] < 1.1


def test_commands_beyond_the_limits_are_clipped():
    fast, faster = NavWorld(), NavWorld()
    for world, command in ((fast, (0.6, 1.0)), (faster, (5.0, 9.0))):
        world.place(Layout((), 0.0, 0.0, 0.0))
        world.step(*command)
    assert fast.pose() == faster.pose()
    backwards = NavWorld()
    backwards.place(Layout((), 0.0, 0.0, 0.0))
    for _ in range(5):
        backwards.step(-1.0, 0.0)
    assert abs(backwards.pose()[0]) < 0.01


@pytest.mark.parametrize("command", [(math.nan, 0.0), (0.1, math.inf)])
def test_commands_that_are_not_finite_are_refused(command):
    world = NavWorld()
    world.place(Layout((), 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="finite"):
        world.step(*command)


@pytest.mark.parametrize("label", [None, 0, 1, 2])
def test_walls_and_objects_stop_the_robot(label):
    world = NavWorld()
    objects = () if label is None else (Placed(label, 1.5, 0.0),)
    world.place(Layout(objects, 0.0, 0.0, 0.0))
    for _ in range(80):
        world.step(0.6, 0.0)
    # walls stand at 2.5; an object's edge is nearer than 0.25 to its centre
    assert world.pose()[0] < (2.5 if label is None else 1.5) - 0.085
    assert world.collisions >= 1
    assert world.touching
    # the motors stall: wheels that spin on the spot would ruin the odometry
    assert abs(world.wheel_velocities()).max() < 3


def test_open_floor_counts_no_collisions():
    world = NavWorld()
    world.place(Layout((Placed(0, 0.0, 1.0),), 0.0, 0.0, 0.0))
    for _ in range(30):
        world.step(0.6, 0.3)
    assert world.collisions == 0
    assert not world.touching


def test_odometry_from_wheels_stays_close_on_open_floor():
    world = NavWorld()
    world.place(Layout((), -1.0, 0.0, 0.0))
    x, y, theta, speed, turn = -1.0, 0.0, 0.0, 0.0, 0.0
    for tick in range(60):
        world.step(0.4, (0.8, -0.8)[tick // 15 % 2])
        left, right = world.wheel_velocities().tolist()
        v, w = (left + right) / 2 * WHEEL_RADIUS, (right - left) / 2 * WHEEL_RADIUS / HALF_TRACK
        turned = (w + turn) / 2 * 0.1
        x += (v + speed) / 2 * 0.1 * math.cos(theta + turned / 2)
        y += (v + speed) / 2 * 0.1 * math.sin(theta + turned / 2)
        theta, speed, turn = theta + turned, v, w
    true_x, true_y, true_theta = world.pose()
    assert math.hypot(x - true_x, y - true_y) < 0.1
    assert abs(theta - true_theta) < 0.08


def test_robot_stays_upright_inside_and_within_sensor_bounds_when_driven_at_random():
    world = NavWorld()
    rng = np.random.default_rng(0)
    for _ in range(12):
        world.place(sample_layout(rng, tuple(rng.permutation(12)[:6].tolist())))
        for tick in range(100):
            if tick % 8 == 0:
                command = (0.6 * rng.integers(2), rng.uniform(-1, 1))
            world.step(*command)
            assert abs(world.wheel_velocities()).max() <= MAX_WHEEL_SPEED
        x, y, _ = world.pose()
        assert max(abs(x), abs(y)) < ARENA / 2
        assert world._qpos[2] < 2 * WHEEL_RADIUS


def test_objects_and_start_keep_their_distance():
    for seed in range(30):
        layout = sample_layout(np.random.default_rng(seed), (0, 1, 2, 3, 4, 5))
        spots = [(p.x, p.y) for p in layout.objects] + [(layout.x, layout.y)]
        assert all(math.dist(p, q) >= 0.9 for i, p in enumerate(spots) for q in spots[:i])


def test_placing_again_leaves_no_trace_of_the_last_layout():
    used, fresh = NavWorld(), NavWorld()
    used.place(sample_layout(np.random.default_rng(1), (3, 4, 5)))
    for _ in range(20):
        used.step(0.6, 0.4)
    layout = sample_layout(np.random.default_rng(2), (0, 1, 2))
    for world in (used, fresh):
        world.place(layout)
        for _ in range(10):
            world.step(0.5, -0.2)
    assert used.pose() == fresh.pose()
    np.testing.assert_array_equal(used.scan()[0], fresh.scan()[0])
    np.testing.assert_array_equal(used.scan()[1], fresh.scan()[1])
