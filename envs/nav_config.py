"""Which instructions the navigation episodes have, and what ends them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.nav_language import VERBS
from envs.nav_phrasings import WORDINGS

#: Ticks that an instruction of one, two or three parts may take.
STEP_LIMITS = {1: 200, 2: 300, 3: 400}

#: Which objects are named: any, or those that are kept for the evaluation (`nav_phrasings.HELD_OUT`), or the others.
NAMED = ("all", "trained", "held_out")


@dataclass(frozen=True)
class NavConfig:
    """What kind of episodes to make; the keyword arguments of `NavEnv`, checked.

    Args:
        parts: probabilities of one-part, of two-part and, where there are three numbers, of three-part instructions.
        verbs: relative frequency of each verb. `stop` occurs only as an instruction of its own.
        instructions_per_episode: when one is completed the next is spoken in the same arena.
        interrupt_probability: how likely an instruction is replaced by another one at a random tick.
        spoken_ticks: for how many observations an instruction can be heard; None: as long as it is valid; two
            numbers: drawn between them for each instruction, every ratio equally likely.
        wording: how instructions are worded, see `nav_phrasings`; all but "trained" and "varied" are for evaluation.
        named: "all" objects, the "trained" ones alone, or the "held_out" ones alone, are named.
        correction_probability: how likely a one-part instruction is corrected on the way: "no, the blue one".
        negation_probability: how likely a one-part instruction also says what is not meant.
        wrong_object_ends: whether reaching another object than the current goal fails the episode.
        linger_ticks: for how many ticks the world goes on when an instruction is carried out, before the next one is
            spoken or the episode ends; two numbers: drawn between them for each instruction. An interruption that
            was still to come then comes at the end of these, and may be interrupted in its turn.

    Raises:
        ValueError: naming the argument, its value and what is allowed.
    """

    parts: Sequence[float] = (0.5, 0.5)
    verbs: Mapping[str, float] = field(default_factory=lambda: {"go": 0.75, "face": 0.2, "stop": 0.05})
    instructions_per_episode: int = 1
    interrupt_probability: float = 0.0
    spoken_ticks: int | Sequence[int] | None = None
    wording: str = "trained"
    named: str = "all"
    correction_probability: float = 0.0
    negation_probability: float = 0.0
    wrong_object_ends: bool = False
    linger_ticks: int | Sequence[int] = 0

    def __post_init__(self) -> None:
        if len(self.parts) not in (2, 3) or min(self.parts) < 0 or abs(sum(self.parts) - 1) > 1e-6:
            raise ValueError(
                f"parts={self.parts!r}: give two probabilities that sum to 1, for one and two parts, or three of them"
            )
        unknown = sorted(set(self.verbs) - set(VERBS))
        if unknown:
            raise ValueError(f"verbs={dict(self.verbs)!r}: {unknown[0]!r} is not one of {', '.join(VERBS)}")
        if any(weight < 0 for weight in self.verbs.values()) or sum(self.verbs.values()) <= 0:
            raise ValueError(f"verbs={dict(self.verbs)!r}: give weights of at least 0, not all of them 0")
        if self.most_parts > 1 and not self.moves:
            raise ValueError(f"verbs={dict(self.verbs)!r}: two-part and longer instructions need go or face")
        for name, value, known in (("wording", self.wording, WORDINGS), ("named", self.named, NAMED)):
            if value not in known:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(known)}")
        if self.instructions_per_episode < 1:
            raise ValueError(f"instructions_per_episode={self.instructions_per_episode}: give at least 1")
        for name in ("interrupt_probability", "correction_probability", "negation_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: give a value in [0, 1]")
        if not _is_span(self.linger_ticks, least=0):
            raise ValueError(f"linger_ticks={self.linger_ticks!r}: give at least 0, or two such numbers in order")
        if self.spoken_ticks is not None and not _is_span(self.spoken_ticks):
            raise ValueError(
                f"spoken_ticks={self.spoken_ticks!r}: give at least 1, two such numbers in order, or None for always"
            )

    @property
    def most_parts(self) -> int:
        """Parts of the longest instruction that may be drawn."""
        return max(n for n, p in enumerate(self.parts, 1) if p > 0)

    @property
    def goes_on(self) -> bool:
        """Whether an episode may have more than one instruction."""
        return self.instructions_per_episode > 1 or self.interrupt_probability + self.correction_probability > 0

    @property
    def moves(self) -> bool:
        """Whether any instruction names an object."""
        return any(self.verbs.get(verb, 0) > 0 for verb in ("go", "face"))


def _is_span(ticks: int | Sequence[int], least: int = 1) -> bool:
    low, high = (ticks, ticks) if isinstance(ticks, int) else ticks if len(ticks) == 2 else (-1, -1)
    return least <= low <= high
