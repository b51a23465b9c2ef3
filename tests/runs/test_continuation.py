"""What a run that is gone on with does not take, and how that is said."""

import dataclasses

import pytest
from absl.flags import FlagValues

from pnil_tf import flags
from pnil_tf.data import DataSettings
from pnil_tf.errors import UserError, speaking_of_flags
from pnil_tf.runs.continuation import continued
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.runs.training_job import prepare
from pnil_tf.training.settings import AttackTrainingSettings

BEGUN = TrainSettings(
    DataSettings("cifar10"),
    attack=AttackTrainingSettings(epsilon=8 / 255),
    run=RunSettings(name="mine"),
)
GOING_ON = RunSettings(name="mine", resume=True)


def test_a_radius_is_said_as_it_is_given():
    asked = dataclasses.replace(BEGUN, run=GOING_ON)
    with speaking_of_flags(), pytest.raises(UserError) as error:
        continued(asked, dataclasses.asdict(BEGUN), {"epsilon": 4 / 255})
    assert "begun with --epsilon=8/255 and cannot go on with --epsilon=4/255." in str(error.value)


def test_another_data_set_is_named_though_no_radius_is_preset_for_it():
    asked = TrainSettings(DataSettings("npz:other.npz"), run=GOING_ON)
    with speaking_of_flags(), pytest.raises(UserError) as error:
        continued(asked, dataclasses.asdict(BEGUN), {"dataset": "npz:other.npz"})
    assert "begun with --dataset=cifar10 and cannot go on with --dataset=npz:other.npz" in str(
        error.value
    )


def test_files_of_ones_own_may_have_moved_but_are_no_other_kind():
    for before, now, free in (
        ("folder:old", "folder:new", True),
        ("npz:old.npz", "npz:new.npz", True),
        ("folder:old", "npz:new.npz", False),
        ("mnist", "folder:new", False),
        ("folder:old", "mnist", False),
    ):
        begun = dataclasses.replace(BEGUN, data=DataSettings(before))
        asked = TrainSettings(DataSettings(now), run=GOING_ON)
        if free:
            found = continued(asked, dataclasses.asdict(begun), {"dataset": now})
            assert found.data.dataset == now
            unsaid = continued(asked, dataclasses.asdict(begun), {})
            assert unsaid.data.dataset == before
        else:
            with pytest.raises(UserError, match="cannot go on with"):
                continued(asked, dataclasses.asdict(begun), {"dataset": now})


def test_whether_damaged_files_are_left_out_is_asked_of_the_runs_own_folder():
    values = FlagValues()
    flags.define("data", "model", "attack", "optimization", "device", "run", flag_values=values)
    values(["train.py", "--resume", "--name=mine", "--skip_damaged"])
    asked, said = flags.train_settings(values), flags.given(values)
    begun = dataclasses.replace(BEGUN, data=DataSettings("folder:photos"))
    with (
        speaking_of_flags(),
        pytest.raises(UserError, match="and cannot go on with --skip_damaged"),
    ):
        continued(asked, dataclasses.asdict(begun), said)
    skipping = dataclasses.replace(begun.data, skip_damaged=True)
    begun = dataclasses.replace(begun, data=skipping)
    assert continued(asked, dataclasses.asdict(begun), said).data == skipping


def test_a_run_that_is_begun_all_the_same_needs_its_radius():
    with pytest.raises(UserError, match="Radii are preset"):
        prepare(TrainSettings(DataSettings("npz:other.npz"), run=GOING_ON))
