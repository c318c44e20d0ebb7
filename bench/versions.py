"""Another checkout's reads against this one's, in the same run and in turn: is a version slower than the one before?

    .venv/bin/python bench/versions.py OTHER [--rounds 9] [--seconds 2] [--days 60] [--connections 1 8]

OTHER is a checkout of another version with its own environment (`make install` there). Both versions serve what their
own `bench/read.py` and `bench/policies.py` serve, at the same time; their targets take turns (A B B A ...). Prints
medians, and the medians of the rounds' ratios, after to before: below 1 is quicker for p50 and cpu.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from load import Target, cores, measure, serving

HERE = Path(__file__).resolve().parent.parent
# The benchmark's file, its arguments, and which of its targets are Pipit's own.
BENCHES: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "read.py": (("--pipe", "top_features"), ("pipit",)),
    "policies.py": (("--environments=0", "--tenants=500"), ("one: policy", "one: no policy", "many: policy")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, metavar="OTHER")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--days", type=int, default=60, help="of events, for read.py")
    parser.add_argument("--only", choices=sorted(BENCHES))
    options = parser.parse_args()
    before, after = options.other.resolve(), HERE
    python = str(before / ".venv/bin/python")
    print(cores())
    print(f"{'':<28}{'connections':>12}{'before p50':>12}{'after p50':>11}   {'rate':>5} {'p50':>5} {'cpu':>5}")
    for name, (arguments, own) in BENCHES.items():
        arguments = (*arguments, f"--days={options.days}") if name == "read.py" else arguments
        if options.only in (None, name):
            with (
                serving(str(before / "bench" / name), *arguments, python=python) as (old, said),
                serving(str(after / "bench" / name), *arguments) as (new, says),
            ):
                for target in own:
                    pair = [_of(old, target, "before"), _of(new, target, "after")]
                    pids = {"before": said["pids"], "after": says["pids"]}
                    for connections in options.connections:
                        found = asyncio.run(measure(pair, pids, connections, options.rounds, options.seconds))
                        print(
                            f"{name + ' ' + target:<28}{connections:>12}"
                            f"{found.p50('before'):>12.2f}{found.p50('after'):>11.2f}   "
                            f"{found.rate_ratio('after', 'before'):>5.2f} {found.p50_ratio('after', 'before'):>5.2f} "
                            f"{found.cpu_ratio('after', 'before'):>5.2f}",
                            flush=True,
                        )


def _of(targets: Sequence[Target], name: str, version: str) -> Target:
    """Rows are not compared between versions: each made its own history of events."""
    return replace(next(target for target in targets if target.name == name), name=version, alike=version)


if __name__ == "__main__":
    main()
