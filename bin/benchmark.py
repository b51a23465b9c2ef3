"""The command `benchmark` from a clone: python bin/benchmark.py --help."""

from pnil_tf import cli
from pnil_tf.commands import benchmark

if __name__ == "__main__":
    cli.run(benchmark.main, *benchmark.FLAGS)
