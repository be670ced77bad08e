"""``python -m recbench key=value ...``."""

import sys

from recbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
