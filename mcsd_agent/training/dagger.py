"""DAgger's rounds: the learner drives on fresh seeds, the expert says at every tick what it would have done.

At some ticks the expert may drive, which gets a learner on that would walk in circles until the episode's limit.
Ross, Gordon, Bagnell, arXiv 1011.0686.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence

import torch

from mcsd_agent.policy import Policy
from mcsd_agent.training.demos import RecordConfig
from mcsd_agent.training.environments import make_env, make_expert
from mcsd_agent.training.episodes import Episode, PolicyActor, run_episodes

#: Episodes at a time in one process.
_PARALLEL = 100


def dagger_episodes(
    learner: Policy, task: RecordConfig, seeds: Sequence[int], expert_share: float = 0.0, processes: int = 1
) -> list[Episode]:
    """Episodes of `seeds` with the expert's labels, in order; those of which the expert knows nothing are left out.

    The expert drives at `expert_share` of the ticks. Several `processes` have a copy of the learner each, on the
    processor.
    """
    if processes == 1 or len(seeds) == 1:
        return _drive(learner, task, seeds, expert_share)
    shares = [seeds[i::processes] for i in range(min(processes, len(seeds)))]
    copy = learner.copied().cpu()
    with multiprocessing.get_context("spawn").Pool(len(shares)) as pool:
        driven = pool.starmap(_drive_alone, [(copy, task, share, expert_share) for share in shares])
    return sorted((e for episodes in driven for e in episodes), key=lambda e: e.seed)


def _drive_alone(learner: Policy, task: RecordConfig, seeds: Sequence[int], expert_share: float) -> list[Episode]:
    torch.set_num_threads(1)
    return _drive(learner, task, seeds, expert_share)


def _drive(learner: Policy, task: RecordConfig, seeds: Sequence[int], expert_share: float) -> list[Episode]:
    return run_episodes(
        lambda: make_env(task.env, task.env_kwargs),
        lambda batch: PolicyActor(learner, batch),
        seeds,
        parallel=_PARALLEL,
        make_expert=lambda env: make_expert(task.env, task.expert, env),
        expert_share=expert_share,
    )
