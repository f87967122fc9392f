"""`python -m runbook_cli …` is the program `runbook`."""

import sys

from runbook_cli.main import main

sys.exit(main())
