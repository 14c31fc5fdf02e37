"""Intervals for the figures we report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_Z95 = 1.959964


@dataclass(frozen=True)
class Rate:
    """A success rate with its 95 % Wilson interval."""

    successes: int
    trials: int

    @property
    def value(self) -> float:
        """Successes per trial; NaN without trials."""
        return self.successes / self.trials if self.trials else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson score interval (E. B. Wilson, 1927), within [0, 1] also at 0 and 100 %."""
        if not self.trials:
            return 0.0, 1.0
        n, p, z2 = self.trials, self.value, _Z95**2
        centre = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
        # exact at the ends, where rounding would leave a trace
        low = 0.0 if self.successes == 0 else centre - half
        return low, 1.0 if self.successes == n else centre + half

    def __str__(self) -> str:
        low, high = self.interval
        return f"{100 * self.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of {self.trials}"


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval by normal approximation; the mean thrice for one value."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    half = _Z95 * float(array.std(ddof=1)) / math.sqrt(len(array)) if len(array) > 1 else 0.0
    return mean, mean - half, mean + half


#: 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom (any table); beyond 30 to three digits by formula.
_T975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def seeds_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval by Student's t, for the few values that seeds give; thrice for one."""
    array = np.asarray(values, float)
    mean, freedom = float(array.mean()), len(array) - 1
    if not freedom:
        return mean, mean, mean
    quantile = _T975[freedom - 1] if freedom <= len(_T975) else _Z95 * (1 + 1.24 / freedom)
    half = quantile * float(array.std(ddof=1)) / math.sqrt(len(array))
    return mean, mean - half, mean + half
