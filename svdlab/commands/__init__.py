"""The commands of the command line, a module for what belongs together; `svdlab.cli` puts them together."""
