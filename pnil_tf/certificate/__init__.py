"""Robustness that is proved: lower bounds that no attack can pass, by PNIL's own noise."""
