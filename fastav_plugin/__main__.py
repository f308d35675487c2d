"""`python -m fastav_plugin`: the command line."""

from fastav_plugin.cli import main

main()
