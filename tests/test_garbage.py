"""What is imported is no garbage to look through."""

import gc

import pytest

from pnil_tf.garbage import imports_alone


@pytest.fixture
def _as_before():
    frozen = gc.get_freeze_count()
    yield
    gc.enable()
    assert gc.get_freeze_count() >= frozen


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("failing", [True, False])
@pytest.mark.usefixtures("_as_before")
def test_nothing_is_collected_within_it_and_all_of_it_is_left_alone_afterwards(enabled, failing):
    (gc.enable if enabled else gc.disable)()
    kept = []
    try:
        with imports_alone():
            assert not gc.isenabled()
            kept.append([kept])
            if failing:
                raise ImportError
    except ImportError:
        assert failing
    assert gc.isenabled() == enabled
    assert not any(o is kept[0] for g in range(3) for o in gc.get_objects(generation=g))
