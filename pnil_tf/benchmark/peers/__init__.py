"""Ours beside what a user would otherwise write: PyTorch, ART and Foolbox, on the same network."""
