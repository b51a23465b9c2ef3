"""Exporting a classifier for servers that know nothing of pnil_tf."""
