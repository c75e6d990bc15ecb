"""``make chaos``: the long chaos run; the last line printed is one JSON object."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.chaos.run import run


def main() -> int:
    """Run it and say whether every invariant holds."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--objects", type=int, default=300)
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        report = run(Path(folder), kills=options.kills, objects=options.objects, seed=options.seed)
        holds = all(report["invariants"].values())
        log = Path(folder) / "tasks.log"
        if not holds and log.exists():
            print(log.read_text()[-20_000:], file=sys.stderr)
    print(json.dumps(report))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
