"""`python -m runbook_lib run params/…`: the library without the lab."""

import sys

from runbook_lib.headless.cli import main

sys.exit(main())
