"""What do trained models say of a text, and why? `python -m jaxattn.predict RUN`."""

import sys

from jaxattn.prediction.command import main

if __name__ == "__main__":
    sys.exit(main())
