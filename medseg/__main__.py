"""``python -m medseg`` is the command line."""

from __future__ import annotations

import sys

from medseg.cli import main

if __name__ == "__main__":
    sys.exit(main())
