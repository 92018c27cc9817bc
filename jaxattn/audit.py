"""How much label do saved masks carry? `python -m jaxattn.audit MASKS`.

The function of that name, for arrays, is `jaxattn.audit`.
"""

import sys

from jaxattn.leakage.command import main

if __name__ == "__main__":
    sys.exit(main())
