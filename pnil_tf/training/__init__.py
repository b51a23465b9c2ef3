"""Adversarial training with one-step attacks."""
