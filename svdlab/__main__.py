"""`python -m svdlab`: the command line, also as a module, as `torchrun --module svdlab` wants it."""

from svdlab.cli import main

main()
