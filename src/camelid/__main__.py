"""`python -m camelid`: the command line, where the script is not on the path."""

from camelid.cli import main

main()
