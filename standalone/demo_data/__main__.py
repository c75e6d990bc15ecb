"""``python -m standalone.demo_data``: upload demo data to the running stack."""

from __future__ import annotations

import argparse
import sys
from datetime import date

from include.errors import LabelwheelError
from standalone.demo_data.upload import FIRST_WEEKS_UNTIL, upload_stream
from standalone.stack import Stack


def main(arguments: list[str] | None = None) -> int:
    """Upload and print the counts; 1 with one sentence when that fails."""
    parser = argparse.ArgumentParser(prog="python -m standalone.demo_data", description=__doc__)
    parser.add_argument("--project", choices=sorted(FIRST_WEEKS_UNTIL), default="email_triage")
    parser.add_argument("--after", type=date.fromisoformat, help="only days from this one on (YYYY-MM-DD)")
    parser.add_argument("--until", type=date.fromisoformat, help="only days before this one (YYYY-MM-DD)")
    parser.add_argument("--first-weeks", action="store_true", help="the part the first loop starts with")
    options = parser.parse_args(arguments)
    until = FIRST_WEEKS_UNTIL[options.project] if options.first_weeks else options.until
    try:
        stack = Stack.load()
        counts = upload_stream(stack.s3(), options.project, stack.home, until=until, after=options.after)
    except LabelwheelError as error:
        print(error, file=sys.stderr)
        return 1
    print(", ".join(f"{name} {value:,}" for name, value in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
