"""`python -m server` is `askstream`."""

from server.cli import main

main()
