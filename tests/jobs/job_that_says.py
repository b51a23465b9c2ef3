"""A job's module: says in its folder how it would name an argument."""

import sys
from pathlib import Path

from pnil_tf.errors import argument

Path(sys.argv[1], "said").write_text(argument("seed", 1))
