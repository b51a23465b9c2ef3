"""Measures what training and attacks cost on this machine.

For example: {program} --train --epoch --startup
or:          {program} --evaluate --eot --memory --benchmark_run=runs/NAME
or:          {program} --peers --benchmark_run=runs/NAME --eot_samples=10

Contenders run in turn in one process; figures are medians, and ratios compare runs of the same
round. Floors are the operations of the network over what the machine does at best. Writes JSON
and prints tables.
"""

from pnil_tf import flags
from pnil_tf.benchmark.peers.packages import import_peers
from pnil_tf.logs import import_tensorflow

FLAGS = ("benchmark",)


def main() -> None:
    """Reads the flags, runs the benchmarks, writes and prints the rows."""
    settings = flags.benchmark_settings()
    if settings.peers:
        import_peers()
    import_tensorflow()
    from pnil_tf.benchmark.run import run_benchmarks

    run_benchmarks(settings)
