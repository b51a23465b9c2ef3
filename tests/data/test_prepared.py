import functools
import json
import os
import shutil

import numpy as np
import pytest

from pnil_tf.data import (
    DataSettings,
    ImageSet,
    feature_safety,
    load,
    memory,
    names,
    network,
    prepared,
    records,
    training_stream,
)
from pnil_tf.data.image_files import ImageFiles
from pnil_tf.errors import RunFailedError, UserError

SPLITS = {
    "plain": ["train", "test"],
    "no_test": ["train"],
    "blind_test": ["train", "test", "validation"],
    "jpeg": ["train", "test"],
    "no_train": ["test"],
    "three": ["train", "test", "validation"],
}
REAL = os.environ.get("TFDS_DATA_DIR", "")


@functools.cache
def builder_class():
    """A builder of small pictures: constant, of value 100 * label + a number."""
    import tensorflow_datasets as tfds

    class TinyPictures(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")
        BUILDER_CONFIGS = [  # noqa: RUF012
            tfds.core.BuilderConfig(name=name)
            for name in (
                "plain",
                "no_test",
                "blind_test",
                "jpeg",
                "no_train",
                "three",
            )
        ]

        def _info(self):
            encoding = "jpeg" if self.builder_config.name == "jpeg" else "png"
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=(8, 8, 3), encoding_format=encoding),
                        "label": tfds.features.ClassLabel(names=["a", "b"]),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {
                split: self._generate_examples(split) for split in SPLITS[self.builder_config.name]
            }

        def _generate_examples(self, split):
            start = {"train": 0, "test": 30, "validation": 60}[split]
            for i in range(20):
                blind = split == "test" and self.builder_config.name == "blind_test"
                image = np.full((8, 8, 3), 100 * (i % 2) + i + start, np.uint8)
                yield i, {"image": image, "label": -1 if blind else i % 2}

    return TinyPictures


@pytest.fixture(scope="module")
def in_any_order(tmp_path_factory):
    """A data directory with the same images as `place`, prepared as array_record."""
    pytest.importorskip("array_record", reason="pip install 'pnil_tf[streaming]'")
    root = tmp_path_factory.mktemp("array_record")
    for config in ("plain", "blind_test", "jpeg"):
        builder = builder_class()(config=config, data_dir=str(root), file_format="array_record")
        builder.download_and_prepare()
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A data directory with every configuration prepared, with no network."""
    root = tmp_path_factory.mktemp("tfds")
    cls = builder_class()
    for config in cls.BUILDER_CONFIGS:
        cls(config=config.name, data_dir=str(root)).download_and_prepare()
    return root


@pytest.fixture(autouse=True)
def closed_network(tmp_path, monkeypatch):
    def forbidden(url, timeout=0.0):
        raise AssertionError(f"the network was asked for {url}")

    monkeypatch.setattr(network, "answers", forbidden)
    monkeypatch.setattr(names, "_DEFAULT_DIR", str(tmp_path / "default"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


def read(place, config, **settings):
    return load(DataSettings(f"tiny_pictures/{config}", str(place), **settings))


def numbers(images):
    return set(images.images[:, 0, 0, 0].tolist())


def test_a_prepared_set_is_read(place):
    data = read(place, "plain")
    assert data.source == "tfds"
    assert data.source_detail == "tiny_pictures/plain/1.2.0"
    assert data.class_names == ("a", "b")
    assert data.counts == {"train": 20, "validation": 10, "test": 10}
    assert data.note is None
    assert numbers(data.train) == {100 * (i % 2) + i for i in range(20)}
    assert not numbers(data.validation) & numbers(data.test)
    for part in (data.train, data.validation, data.test):
        assert ((part.images[:, 0, 0, 0] >= 100) == part.labels).all()
        assert (np.bincount(part.labels) == len(part) // 2).all()


def test_the_default_configuration_is_found_by_its_code(place):
    data = load(DataSettings("tiny_pictures", str(place)))
    assert data.source_detail == "tiny_pictures/plain/1.2.0"


def test_a_set_without_test_images_gives_a_fifth_of_its_own(place):
    data = read(place, "no_test")
    assert data.counts == {"train": 16, "validation": 2, "test": 2}
    assert len(numbers(data.train) | numbers(data.validation) | numbers(data.test)) == 20


def test_unlabelled_test_images_give_way_to_the_validation_split(place):
    data = read(place, "blind_test")
    assert numbers(data.validation) | numbers(data.test) == {
        60 + 100 * (i % 2) + i for i in range(20)
    }


def test_the_predefined_test_split_is_the_one_that_is_halved(place):
    data = read(place, "three")
    assert numbers(data.validation) | numbers(data.test) == {
        30 + 100 * (i % 2) + i for i in range(20)
    }


def test_a_set_without_training_images_is_refused(place):
    with pytest.raises(UserError, match="no training images"):
        read(place, "no_train")


def test_jpeg_copies_of_lossless_sets_are_named(place, monkeypatch):
    assert read(place, "jpeg").note is None
    monkeypatch.setitem(prepared.LOSSLESS, "tiny_pictures", "Tiny")
    assert read(place, "jpeg").note == "Tiny (JPEG q95)"
    assert read(place, "plain").note is None


@pytest.mark.parametrize("data_in_memory", ["true", "false"])
@pytest.mark.parametrize(
    ("config", "image_size"), [("plain", None), ("blind_test", None), ("jpeg", (6, 7))]
)
def test_records_in_any_order_are_the_same_data(
    place, in_any_order, data_in_memory, config, image_size
):
    expected = read(place, config, image_size=image_size)
    data = read(in_any_order, config, image_size=image_size, data_in_memory=data_in_memory)
    assert isinstance(data.train, ImageFiles if data_in_memory == "false" else ImageSet)
    assert data.sha256 == expected.sha256
    said, also = data.describe(), expected.describe()
    assert len(said.pop("remarks")) == (data_in_memory == "false")
    assert also.pop("remarks") == []
    assert said == also
    pairs = zip(
        training_stream(data.train, 6, seed=1, start_step=2).take(4),
        training_stream(expected.train, 6, seed=1, start_step=2).take(4),
        strict=True,
    )
    for (x, y), (x_expected, y_expected) in pairs:
        np.testing.assert_array_equal(x, x_expected)
        np.testing.assert_array_equal(y, y_expected)


def test_a_copy_stored_as_jpeg_is_named_in_any_order(in_any_order, monkeypatch):
    monkeypatch.setitem(prepared.LOSSLESS, "tiny_pictures", "Tiny")
    assert read(in_any_order, "jpeg").note == "Tiny (JPEG q95)"


def test_auto_reads_records_that_memory_cannot_hold(in_any_order, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 100)
    assert isinstance(read(in_any_order, "plain").train, ImageFiles)
    with pytest.raises(UserError, match=r"too large .*let data_in_memory='auto' read them"):
        read(in_any_order, "plain", data_in_memory="true")


def test_records_in_order_alone_cannot_be_read_as_they_are_needed(place):
    with pytest.raises(UserError, match=r"cannot be read in any order.*file_format='array_record'"):
        read(place, "plain", data_in_memory="false")


@pytest.mark.parametrize("data_in_memory", ["true", "false"])
def test_damaged_records_are_refused_by_their_number(in_any_order, tmp_path, data_in_memory):
    folder = tmp_path / "tiny_pictures/plain/1.2.0"
    shutil.copytree(in_any_order / "tiny_pictures/plain/1.2.0", folder)
    (file,) = folder.glob("*train*")
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"IDAT", b"XXXX"))
    with pytest.raises(UserError, match=r"Image \d+ of the train images of .*cannot be read"):
        read(tmp_path, "plain", data_in_memory=data_in_memory)


def test_records_that_change_meanwhile_are_named(in_any_order, monkeypatch):
    train = read(in_any_order, "plain", data_in_memory="false").train
    monkeypatch.setattr(records.Records, "example", lambda *_: (np.zeros((8, 8, 3), np.uint8), 0))
    with pytest.raises(RunFailedError, match=r"Image \d+ of the train images is no longer"):
        train.unit_images  # noqa: B018


def test_images_are_resized_when_asked(place):
    assert read(place, "plain", image_size=(4, 6)).input_shape == (4, 6, 3)


def test_the_search_goes_on_to_the_environment_and_the_default(place, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(place))
    assert read(tmp_path / "none", "plain").source == "tfds"
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setattr(names, "_DEFAULT_DIR", str(place))
    assert read(tmp_path / "none", "plain").source == "tfds"


def test_other_versions_and_sets_without_code_are_found_by_their_files(place, tmp_path):
    source = place / "tiny_pictures" / "plain" / "1.2.0"
    for version in ("1.9.0", "1.10.0"):
        target = tmp_path / "stranger" / version
        shutil.copytree(source, target)
        info = (target / "dataset_info.json").read_text()
        (target / "dataset_info.json").write_text(info.replace("1.2.0", version))
    name = "stranger"
    assert load(DataSettings(name, str(tmp_path))).source_detail.endswith("1.10.0")
    assert load(DataSettings(f"{name}:1.9.0", str(tmp_path))).source_detail.endswith("1.9.0")
    with pytest.raises(UserError, match="name is not valid"):
        load(DataSettings(f"{name}:2.0.0", str(tmp_path)))


@pytest.mark.faults
def test_damaged_sets_are_refused(place, tmp_path):
    broken = tmp_path / "tiny_pictures" / "plain" / "1.2.0"
    shutil.copytree(place / "tiny_pictures" / "plain" / "1.2.0", broken)
    (records,) = broken.glob("*train*")
    whole = records.read_bytes()
    middle = len(whole) // 2
    for damaged in (
        whole[:middle],
        whole[:middle] + b"%c" % (whole[middle] ^ 1) + whole[middle + 1 :],
    ):
        records.write_bytes(damaged)
        with pytest.raises(UserError, match="train images"):
            read(tmp_path, "plain")
    records.unlink()
    with pytest.raises(UserError, match="is incomplete: 1 of its files"):
        read(tmp_path, "plain")
    (broken / "dataset_info.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path, "plain")


@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name", "type"])
@pytest.mark.parametrize("depth", ["stranger/1.0.0", "stranger/small/1.0.0"])
def test_a_prepared_set_imports_no_module_of_its_own(place, tmp_path, monkeypatch, key, depth):
    source = place / "tiny_pictures" / "plain" / "1.2.0"
    shutil.copytree(source, tmp_path / depth)
    (tmp_path / "intruder.py").write_text(
        f"open({str(tmp_path / 'was_here')!r}, 'w')\n"
        "from tensorflow_datasets.core.features.features_dict import FeaturesDict as Features\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / depth / "features.json"
    ours = '"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict"'
    assert ours in file.read_text()
    file.write_text(file.read_text().replace(ours, f'"{key}": "intruder.Features"'))
    for name in ("stranger", "stranger/small"):
        with pytest.raises(UserError):
            load(DataSettings(name, str(tmp_path)))
    assert not (tmp_path / "was_here").exists()


def test_a_class_that_is_no_feature_is_named(tmp_path):
    file = tmp_path / "features.json"
    home = "tensorflow_datasets.core.features"
    for bad in ("os.path", f"{home}.image_feature.os", f"{home}.x.y.Image", "Image"):
        file.write_text(
            json.dumps(
                {"pythonClassName": f"{home}.image_feature.Image", "a": [{"pythonClassName": bad}]}
            )
        )
        with pytest.raises(UserError, match=f"names the class '{bad}'"):
            feature_safety.check(file)
    file.write_text(json.dumps({"type": {"pythonClassName": f"{home}.image_feature.Image"}}))
    feature_safety.check(file)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("pattern", ["*train*", "features.json", "label.labels.txt"])
def test_pipes_are_not_waited_for(place, tmp_path, pattern):
    folder = tmp_path / "tiny_pictures" / "plain" / "1.2.0"
    shutil.copytree(place / "tiny_pictures" / "plain" / "1.2.0", folder)
    (file,) = folder.glob(pattern)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(UserError):
        read(tmp_path, "plain")


def test_the_damaged_file_is_named(place, tmp_path):
    folder = tmp_path / "tiny_pictures" / "plain" / "1.2.0"
    shutil.copytree(place / "tiny_pictures" / "plain" / "1.2.0", folder)
    (records,) = folder.glob("*train*")
    records.write_bytes(records.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"{records.name} is damaged"):
        read(tmp_path, "plain")


@pytest.mark.skipif(
    not os.path.isdir(os.path.join(REAL, "mnist")), reason="no prepared MNIST in TFDS_DATA_DIR"
)
def test_the_real_mnist():
    data = load(DataSettings("mnist", REAL))
    assert data.counts == {"train": 60_000, "validation": 5_000, "test": 5_000}
    # As published: 6,742 ones and 5,421 fives to train on, 1,135 and 892 to test with.
    assert np.bincount(data.train.labels)[[1, 5]].tolist() == [6742, 5421]
    halves = np.bincount(data.validation.labels), np.bincount(data.test.labels)
    assert (halves[0] + halves[1])[[1, 5]].tolist() == [1135, 892]
    assert np.abs(halves[0] - halves[1]).max() <= 1
    assert data.note is None
