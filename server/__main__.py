"""`python -m askstream.server` is `askstream`."""

from askstream.server.cli import main

main()
