"""`python -m omnirelay.cli`."""

from omnirelay.cli.main import main

main()
