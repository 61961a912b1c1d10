"""`python -m longtake`: the command line."""

from longtake.cli import main

main()
