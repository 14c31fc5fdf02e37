"""What was computed for some inputs is used again only while they hold the same."""

from __future__ import annotations

import numpy as np

from mcsd_agent.runtime.unchanged import Unchanged


def test_what_arrays_hold_counts_and_not_which_they_are():
    unchanged, array = Unchanged(), np.zeros(3)
    assert not unchanged.is_so([array])
    unchanged.remember([array])
    assert unchanged.is_so([array])
    assert unchanged.is_so([np.zeros(3)])
    array[1] = 1.0
    assert not unchanged.is_so([array])
    unchanged.forget()
    assert not unchanged.is_so([np.zeros(3)])


def test_an_array_that_cannot_be_written_is_taken_by_itself_unless_it_shows_one_that_can():
    unchanged, own, base = Unchanged(), np.zeros(3), np.zeros(3)
    own.flags.writeable = False
    unchanged.remember([own])
    assert unchanged.is_so([own])
    shown = base[:]
    shown.flags.writeable = False
    unchanged.remember([shown])
    base[0] = 1.0
    assert not unchanged.is_so([shown])
