"""`python -m runbook_lib run params/…`: the library without the lab."""

import sys

from .cli import main

sys.exit(main())
