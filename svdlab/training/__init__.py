"""Training: a procedural video world, teacher training, and consistency distillation."""
