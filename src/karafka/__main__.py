"""`python -m karafka` is `karafka`."""

from karafka.cli import main

main()
