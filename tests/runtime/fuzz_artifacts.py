"""A process that reads mutated artifacts, and prints what became of them: see test_fuzz.py.

    python fuzz_artifacts.py SEED COUNT ARTIFACT...

It limits its own memory, may open no file and start no process once it has begun, and dumps its stack and
dies if one artifact takes too long.
"""

from __future__ import annotations

import faulthandler
import json
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from runtime.artifact_mutations import Mutation, mutate

from mcsd_agent.errors import UserError
from mcsd_agent.runtime import Stream
from mcsd_agent.runtime.package import Package, _members, parse_package
from mcsd_agent.runtime.stream import engines_here

NAME = "artifact 'fuzz.mcsd'"
MEMORY_BYTES = 6 << 30
SECONDS_EACH = 30.0
TICKS = 4
ENGINES = [name for name in engines_here() if name != "torch"]
FORBIDDEN = ("open", "os.", "subprocess.", "socket.", "exec", "compile", "import", "ctypes.", "pickle.", "shutil.")


class Broken(Exception):
    """A promise that was not kept."""


def demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def inputs(package: Package) -> list[dict[str, np.ndarray]]:
    """The same observations for every artifact whose inputs are shaped alike."""
    rng = np.random.default_rng(0)
    ports = sorted((p for p in package.model.inputs if p.name != "state"), key=lambda p: p.name)
    return [
        {p.name: rng.integers(0, 2, [n or 1 for n in p.shape]).astype(p.dtype) for p in ports} for _ in range(TICKS)
    ]


def outputs(package: Package, engine: str) -> list[np.ndarray]:
    """Actions, states and, where it is predicted, success of a few ticks."""
    stream = Stream(package, engine)
    state, found = stream.initial_state(), []
    for tick in inputs(package):
        action, success, state = stream.advance_and_judge(tick, state)
        found += [action, state, *([] if success is None else [success])]
    return found


def verdict(mutation: Mutation, original: bytes, expected: dict[str, list[np.ndarray]]) -> str:
    """What became of a mutated artifact; `Broken` for anything that must not happen."""
    try:
        package = parse_package(mutation.data, NAME)
    except UserError as error:
        message = str(error)
        demand(message.startswith(NAME), f"refused without its name: {message!r}")
        demand(message.isprintable(), f"refused in more than a line: {message!r}")
        demand(len(message) < 700, "refused at length")
        return "refused"
    demand(mutation.changed != "bytes" or mutation.data == original, "loaded although its bytes were changed")
    results = []
    for engine in ENGINES:
        try:
            found = outputs(package, engine)
        except UserError as error:
            demand(str(error).isprintable(), f"reported in more than a line: {error}")
            results.append("reported at load")
            continue
        except Exception as error:
            # What depends on observations (an index out of range) raises at that tick, and a controller stops.
            demand(mutation.changed == "step", f"a tick failed: {error!r}")
            demand(not isinstance(error, MemoryError), repr(error))
            results.append("reported at a tick")
            continue
        for array, reference in zip(found, expected[engine], strict=True):
            if mutation.changed != "step":
                # The step is the same, so is every bit of what it computes.
                demand(array.dtype == reference.dtype, "computes another type")
                demand(array.tobytes() == reference.tobytes(), "computes something else")
        is_same = all(a.tobytes() == b.tobytes() for a, b in zip(found, expected[engine], strict=True))
        is_finite = all(np.isfinite(a).all() for a in found)
        results.append("identical" if is_same else "other" if is_finite else "not finite")
    return " / ".join(sorted(set(results)))


#: True while an artifact is read and run.
reading = False


def confine() -> None:
    """No new files, no new processes, bounded memory, from here on."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # compiled code cannot open anything either

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if reading and event.startswith(FORBIDDEN):
            raise SystemExit(f"forbidden while reading an artifact: {event} {arguments!r:.200}")

    sys.addaudithook(refuse)


def judge(mutation: Mutation, original: bytes, expected: dict[str, list[np.ndarray]]) -> str:
    """`verdict`, watched: it may open no file and must end in time."""
    global reading
    faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
    reading = True
    try:
        return verdict(mutation, original, expected)
    finally:
        reading = False
        faulthandler.cancel_dump_traceback_later()


def main(seed: int, count: int, paths: list[str]) -> None:
    originals = [Path(p).read_bytes() for p in paths]
    members = [_members(data, NAME)[0] for data in originals]
    expected = []
    for data in originals:
        package = parse_package(data, NAME)
        expected.append({engine: outputs(package, engine) for engine in ENGINES})
    # Whatever is imported lazily on the way to a refusal is imported now.
    warm = random.Random(-1)
    for i in range(300):
        which = i % len(originals)
        verdict(mutate(members[which], warm), originals[which], expected[which])
    faulthandler.enable()
    confine()
    counts: Counter[str] = Counter()
    slowest, began = 0.0, time.process_time()
    for i in range(count):
        rng = random.Random(seed * 1_000_003 + i)
        which = rng.randrange(len(originals))
        mutation = mutate(members[which], rng)
        print(f"mutation {i} of seed {seed}: {mutation.kind}", file=sys.stderr, flush=True)  # the last one is to blame
        start = time.perf_counter()
        counts[f"{mutation.changed}: {judge(mutation, originals[which], expected[which])}"] += 1
        slowest = max(slowest, time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        json.dumps({"counts": counts, "slowest_s": slowest, "cpu_s": time.process_time() - began, "peak_bytes": peak})
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
