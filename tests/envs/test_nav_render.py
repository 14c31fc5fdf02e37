"""The top view, drawn from plain data."""

import json

import numpy as np
import pytest

from envs.nav import NavEnv
from envs.nav_render import draw

EMPTY = {"pose": {"x": 0.0, "y": 0.0, "theta": 0.0}, "objects": [], "instruction": "", "stage": 0, "parts": 1}


def changed(a, b):
    """Rows and columns, as fractions of the arena's square, of the mean differing pixel."""
    rows, columns = np.nonzero((a != b).any(axis=2))
    bar = a.shape[0] - a.shape[1]
    return (rows.mean() - bar) / a.shape[1], columns.mean() / a.shape[1]


def test_render_gives_an_even_rgb_image():
    env = NavEnv(render_mode="rgb_array")
    env.reset(seed=0)
    image = env.render()
    assert image.dtype == np.uint8
    assert image.shape == (534, 480, 3)
    assert image.shape[0] % 2 == image.shape[1] % 2 == 0


def test_drawing_does_not_alter_what_it_is_given():
    env = NavEnv()
    env.reset(seed=0)
    ranges, labels = env.world.scan()
    state = env.world_state()
    before = json.dumps(state), ranges.copy(), labels.copy()
    draw(state, ranges, labels, [(0, 0), (1, 1)])
    assert before[0] == json.dumps(state)
    np.testing.assert_array_equal(before[1], ranges)
    np.testing.assert_array_equal(before[2], labels)


@pytest.mark.parametrize("shape", ["ball", "box", "cone"])
@pytest.mark.parametrize(("colour", "channel"), [("red", 0), ("green", 1), ("blue", 2)])
def test_objects_are_drawn_where_they_are_in_their_colour(shape, colour, channel):
    # x points right, y points up
    state = {**EMPTY, "objects": [{"name": f"{colour} {shape}", "x": 1.25, "y": 1.25}]}
    image, empty = draw(state), draw(EMPTY)
    row, column = changed(image, empty)
    assert row == pytest.approx(0.26, abs=0.03)
    assert column == pytest.approx(0.74, abs=0.03)
    pixels = image[(image != empty).any(axis=2)].mean(axis=0)
    assert pixels.argmax() == channel


def test_scan_and_trail_work_on_data_from_json():
    env = NavEnv()
    env.reset(seed=0)
    ranges, labels = env.world.scan()
    data = json.loads(json.dumps([env.world_state(), ranges.tolist(), labels.tolist(), [[0, 0], [1, 0.5]]]))
    with_scan, without = draw(*data, size=200), draw(data[0], size=200)
    assert (with_scan != without).any()


def test_long_instructions_fit_the_bar():
    state = {**EMPTY, "instruction": "go to the red ball and after that " * 4}
    image = draw(state, size=320)
    assert (image[:, -2:] == draw(EMPTY, size=320)[:, -2:]).all()


@pytest.mark.parametrize("size", [481, 20])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"size={size}"):
        draw(EMPTY, size=size)
