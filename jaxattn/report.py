"""Redraw the report of a run, or compare runs: `python -m jaxattn.report RUN ...`."""

import sys

from jaxattn.reporting.command import main

if __name__ == "__main__":
    sys.exit(main())
