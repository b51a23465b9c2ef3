"""What a run that goes on takes from the one that was begun."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pnil_tf.contract.setting_text import setting_text
from pnil_tf.data import Dataset, DataSettings
from pnil_tf.errors import UserError, argument
from pnil_tf.runs.settings import TrainSettings

# The images are the same, whichever way they are had.
_WAYS_TO_IMAGES = ("data_dir", "data_source", "data_in_memory")
# Settings that may be said again on resuming, whatever they were: they touch no weight.
FREE_ON_RESUME = {"resume", "overwrite", "runs_dir", "name", *_WAYS_TO_IMAGES}


def continued(
    settings: TrainSettings, stored: dict[str, dict[str, Any]], given: Mapping[str, Any]
) -> TrainSettings:
    """The stored run's settings, unless something was said that contradicts them.

    Args:
        settings: What was asked for now.
        stored: The settings in `run.json`, by group.
        given: Those of `settings` that were said explicitly, by name.

    Raises:
        UserError: If one of them is another than the stored run's.
    """
    ways = list(_WAYS_TO_IMAGES)
    if _may_have_moved(stored["data"]["dataset"], settings.data.dataset):
        ways.append("dataset")
    free = {name: getattr(settings.data, name) for name in ways}
    groups = {
        name: type(getattr(settings, name))(**stored[name])
        for name in ("model", "attack", "optimization", "device")
    }
    run = {**stored["run"], **{name: getattr(settings.run, name) for name in ("runs_dir", "name")}}
    run |= {"resume": True, "overwrite": False}
    found = TrainSettings(
        data=DataSettings(**{**stored["data"], **{k: v for k, v in free.items() if k in given}}),
        run=type(settings.run)(**run),
        **groups,
    )
    # Not what was stored: an older version may have said the same in another way.
    before = {k: v for group in dataclasses.asdict(found).values() for k, v in group.items()}
    for name, value in given.items():
        if name not in FREE_ON_RESUME | set(ways) and value != before.get(name):
            raise UserError(
                f"The run was begun with {setting_text(name, before.get(name))} and cannot go on "
                f"with {setting_text(name, value)}. Leave it out, or begin another run under "
                f"another {argument('name')}."
            )
    return found


def _may_have_moved(before: str, now: str) -> bool:
    """Whether two names are of files of the user's own, which may be the same in another place."""
    first, second = DataSettings(before), DataSettings(now)
    return bool((first.folder and second.folder) or (first.npz and second.npz))


def same_images(record: Mapping[str, Any], data: Dataset) -> bool:
    """Whether a run was begun with these images, shared out in this way."""
    before = record["data"]["sha256"]
    # Of a folder, earlier records have the fingerprint of its pixels.
    return bool(before == data.sha256 or before == data.sha256_of_pixels)


def check_images(record: dict[str, Any], data: Dataset) -> None:
    """Refuses to go on with other images than those that the run was begun with.

    Raises:
        UserError: If they are others.
    """
    before = record["data"]
    if not same_images(record, data):
        raise UserError(
            f"The run was begun with other images: {before['counts']['train']} to train on from "
            f"{record['data_source']}, where now there are {len(data.train)} from {data.source}. "
            f"{way_back(data.name)}."
        )


def way_back(dataset: str) -> str:
    """How the images that a run was begun with are had again, as the start of a sentence."""
    asked = DataSettings(dataset)
    if asked.folder or asked.npz:  # which are where they were
        return "Bring the first ones back as they were"
    return (
        f"Bring the first ones back, say with {argument('data_dir')} and "
        f"{argument('data_source')} where they are"
    )
