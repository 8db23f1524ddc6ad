"""`python -m svdlab`: the command line, also as a module, as `accelerate launch --module svdlab` wants it."""

from svdlab.cli import main

main()
