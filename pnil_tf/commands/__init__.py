"""The commands: one file each, whose docstring is the command's help."""
