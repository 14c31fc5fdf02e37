"""Videos: a path that cannot be written is refused with the reason, and nothing is left or lost there."""

from __future__ import annotations

import numpy as np
import pytest

from mcsd_agent.errors import UserError
from mcsd_agent.training.video import VideoWriter

FRAME = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file/a.mp4", "exists|Not a directory"),
        ("folder.mp4", "Is a directory"),
        ("a.xyz", "no known format; give a path that ends in .mp4"),
    ],
)
def test_a_video_that_cannot_be_written_names_the_reason(tmp_path, name, words):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.mp4").mkdir()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=words) as error:
        VideoWriter(tmp_path / name, 20).add(FRAME)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_video_is_written_into_a_new_folder_and_over_an_old_file(tmp_path):
    path = tmp_path / "new" / "a.mp4"
    sizes = []
    for frames in (20, 2):
        video = VideoWriter(path, 20)
        for _ in range(frames):
            video.add(FRAME)
        video.close()
        sizes.append(path.stat().st_size)
    assert sizes[0] > sizes[1] > 0
