"""Honest evaluation: attacks, the verdict, and whether the robustness is real."""
