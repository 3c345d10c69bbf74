"""`python -m patchlab`: the command line without an installed script."""

import sys

from patchlab.cli import main

sys.exit(main())
