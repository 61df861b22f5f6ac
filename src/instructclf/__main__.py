"""``python -m instructclf``: the command line."""

import sys

from instructclf.command_line import main

if __name__ == "__main__":
    sys.exit(main())
