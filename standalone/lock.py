"""Resolve every ``*.in`` file into a lock with the hashes of all versions, for every supported Python and platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from standalone.home import REPO

# In this order: the others are constrained by the first.
RIVALS = tuple(f"bench/environments/{path.stem}" for path in sorted((REPO / "bench" / "environments").glob("*.in")))
LOCKS = ("requirements", "requirements-dev", "standalone/tools", *RIVALS)
OLDEST_PYTHON = "3.11.5"


def main() -> int:
    """Write the locks; versions in an existing lock are kept while they satisfy its source."""
    uv = Path(sys.executable).with_name("uv")
    for name in LOCKS:
        command = [
            *(str(uv), "pip", "compile", f"{name}.in", "--output-file", f"{name}.txt"),
            *("--universal", "--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-emit-index-url"),
            *("--custom-compile-command", "make lock", "--quiet"),
        ]
        code = subprocess.run(command, cwd=REPO, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
