"""Queues of received messages: the newest are kept, and all queues together stay within their budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ros_bridge.backlog import Backlog, Budget

LIMIT, DEPTHS = 100, (1, 3, 50)


@given(st.lists(st.tuples(st.sampled_from(["put", "take", "clear"]), st.integers(0, 2), st.integers(0, 120))))
def test_budget_holds_and_the_newest_are_kept(steps):
    budget = Budget(LIMIT)
    queues = [Backlog(budget, depth) for depth in DEPTHS]
    models: list[list[tuple[int, int]]] = [[], [], []]
    lost = [0, 0, 0]
    for number, (what, which, size) in enumerate(steps):
        queue, model = queues[which], models[which]
        if what == "put":
            has_room = queue.put((number, size), size)
            others = sum(s for m in models if m is not model for _, s in m)
            while model and (len(model) == DEPTHS[which] or others + sum(s for _, s in model) + size > LIMIT):
                model.pop(0)
                lost[which] += 1
            assert has_room == (others + sum(s for _, s in model) + size <= LIMIT)
            if has_room:
                model.append((number, size))
            else:
                lost[which] += 1
        elif what == "clear":
            queue.clear()
            model.clear()
        elif model:
            assert queue.take() == model.pop(0)
        else:
            with pytest.raises(IndexError):
                queue.take()
        assert budget.used == sum(s for m in models for _, s in m) <= LIMIT
        assert [len(q) for q in queues] == [len(m) for m in models]
        assert [q.dropped for q in queues] == lost
