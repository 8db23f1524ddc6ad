"""How the questions of `experiments/` are answered: pictures with their truth, sweeps, statistics, a page."""
