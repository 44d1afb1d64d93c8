"""`python -m nnaq` is the command line."""

from nnaq.cli import main

main()
