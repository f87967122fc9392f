"""`python -m ec2lab up` and so on."""

import sys

from ec2lab.cli import main

sys.exit(main(sys.argv[1:]))
