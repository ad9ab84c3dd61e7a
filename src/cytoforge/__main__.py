"""`python -m cytoforge` is the command `cytoforge`."""

from cytoforge.cli.main import main

main()
