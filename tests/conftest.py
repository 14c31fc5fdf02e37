"""Settings that every test shares: one thread, and property tests that do not depend on machine speed."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("default", deadline=None, max_examples=30, derandomize=True)
settings.load_profile("default")

try:
    import torch
except ModuleNotFoundError:  # the robot's installation has no torch
    pass
else:
    torch.set_num_threads(1)
