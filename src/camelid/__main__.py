"""`python -m camelid`: the command line, where the script is not on the path."""

import sys

from camelid.cli import main

sys.exit(main())
