"""`python -m camelid`: the command line, where the script is not on the path."""

import sys

from camelid.cli.main import main

sys.exit(main())
