"""`python -m runbook_lab up` and so on."""

import sys

from runbook_lab.cli import main

sys.exit(main(sys.argv[1:]))
