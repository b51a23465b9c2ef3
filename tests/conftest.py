"""What all tests share: two logical CPU devices, and a small real-looking problem."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pnil_tf.garbage import imports_alone

with imports_alone():
    import keras
    import numpy as np
    import pytest
    import tensorflow as tf

    from pnil_tf.training.settings import DeviceSettings
    from pnil_tf.training.strategy import make_strategy

# Before TensorFlow starts: replicas need devices, and a device cannot be split later.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration(), tf.config.LogicalDeviceConfiguration()],
)


@pytest.fixture(autouse=True)
def _fresh_keras():
    """Every test starts from the same seed and the float32 policy."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("float32")
    yield
    keras.backend.clear_session(free_memory=False)


@pytest.fixture(scope="session", autouse=True)
def _caches(tmp_path_factory):
    """What is kept to be found out again is none of the user's, also in commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="session")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """400 images float32 (8, 8, 1) in [0, 1] of 4 classes: a bright quarter each, with noise."""
    generator = np.random.default_rng(7)
    y = generator.integers(0, 4, 400).astype(np.int32)
    x = generator.uniform(0.0, 0.4, (400, 8, 8, 1)).astype(np.float32)
    for i, label in enumerate(y):
        row, column = 4 * (label // 2), 4 * (label % 2)
        x[i, row : row + 4, column : column + 4] += 0.5
    return x, y


@pytest.fixture(scope="session")
def two_replicas() -> tf.distribute.Strategy:
    """A `MirroredStrategy` on both CPU devices.

    One for all tests: a second one in a process reuses the first one's collective operations,
    and TensorFlow aborts on their shapes.
    """
    return make_strategy(DeviceSettings(num_cpu_devices=2))
