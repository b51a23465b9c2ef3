"""An evaluation's results, as tests compare them."""

from typing import Any

_OF_ALL = (
    "attack_seconds",
    "attack_cpu_seconds",
    "finished",
    "predicted_seconds",
    "process_seconds",
)
_OF_EACH = ("cpu_seconds", "images_per_second", "seconds")


def without_times(results: dict[str, Any]) -> dict[str, Any]:
    """Takes out what depends on the clock; the results are changed, and returned."""
    for key in _OF_ALL:
        del results[key]
    for attack in results["attacks"].values():
        for key in _OF_EACH:
            del attack[key]
    return results
