"""Data for runs: `python -m jaxattn.data list|show|check|prepare`."""

import sys

from jaxattn.data.command import main

if __name__ == "__main__":
    sys.exit(main())
