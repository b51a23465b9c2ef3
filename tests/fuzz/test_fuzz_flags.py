"""Command lines and flagfiles: settings that a flagfile repeats, or one sentence."""

from pathlib import Path

import pytest
from absl import flags as absl_flags
from fuzzing import SIZES, damaged_bytes, fuzz
from hypothesis import strategies as st

from pnil_tf import flags
from pnil_tf.errors import UserError
from pnil_tf.runs.description import flagfile

TRAINING = ("data", "model", "attack", "optimization", "device", "run")
COMMANDS = {
    TRAINING: flags.train_settings,
    ("evaluation", "data"): flags.evaluation_arguments,
    ("certificate", "data"): flags.certificate_arguments,
    ("export",): flags.export_arguments,
    ("benchmark",): flags.benchmark_settings,
    ("study",): flags.study_settings,
}
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.cfg"))

VALUES = st.one_of(
    st.sampled_from(["", " ", "0", "1", "-1", "3", "0.5", "8/255", "1/0", "1e-400", "nan", "-inf"]),
    st.sampled_from(["9" * 400 + "/1", "9" * 5000, "2147483648", "1e308", "0x10", "1_0", "٣"]),
    st.sampled_from(["auto", "true", "False", "none", "pgd-7", "pgd--1", "rfgsm", "linf", "l2"]),
    st.sampled_from(["mnist", "folder:", "folder:/x", "../..", "a/b", "a\0b", "a\n--pnil", "-x"]),
    st.sampled_from(["pgd,fgsm", ",", "0.1,0.2", "0.1,x", "32", "32x", "x", "3x4x5", "99999x1"]),
    st.sampled_from(["1000000000", "50000000", "pgd-1000000", "8192x8192", "9" * 401, "0,255"]),
    st.sampled_from(["\x1b[2J", "a\u202eb", ".lock", ".x.tmp", "..", "a\r", "preset:", "CON"]),
    st.sampled_from(["\udcff", "ä" * 200, "a ", "\u2028", "#", "//", "$HOME", "~", "<b>", "'\""]),
    st.text(max_size=8),
)


@st.composite
def command_lines(draw):
    """A command's groups of flags, and arguments that are mostly its flags with odd values."""
    groups = draw(st.sampled_from(list(COMMANDS)))
    values = absl_flags.FlagValues()
    flags.define(*groups, flag_values=values)
    name = st.sampled_from([n for _, names in flags.groups(values) for n in names])
    argument = st.one_of(
        st.builds("--{}={}".format, name, VALUES),
        st.builds("--{}={}".format, name, VALUES),
        st.builds("--{}".format, name),
        st.builds("--no{}".format, name),
        st.builds("--no{}={}".format, name, VALUES),
        st.builds("-{} {}".format, name, VALUES),
        st.builds("--flagfile={}".format, VALUES),
        st.builds("--undefok={}".format, VALUES),
        VALUES,
    )
    return groups, draw(st.lists(argument, min_size=1, max_size=5))


def settings_of(groups, arguments):
    values = absl_flags.FlagValues()
    flags.define(*groups, flag_values=values)
    flags.parse(["command", *arguments], values)
    return COMMANDS[groups](values)


@pytest.mark.parametrize("many", SIZES)
def test_command_lines(many, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    repeat = tmp_path / "flags.cfg"

    def check(case):
        groups, arguments = case
        try:
            found = settings_of(groups, arguments)
            if groups == TRAINING:
                repeat.write_text(flagfile(found), encoding="utf-8")
                again = settings_of(groups, [f"--flagfile={repeat}"])
                for group in ("data", "model", "attack", "optimization", "device"):
                    assert getattr(again, group) == getattr(found, group)
                assert again.run.name == found.run.name
        finally:
            repeat.unlink(missing_ok=True)
            assert not list(tmp_path.iterdir())

    fuzz(many, command_lines(), check, 200, 8000)


@pytest.mark.parametrize("many", SIZES)
def test_flagfiles(many, tmp_path):
    file = tmp_path / "damaged.cfg"

    def check(content):
        file.write_bytes(content)
        settings_of(TRAINING, [f"--flagfile={file}"])

    contents = [path.read_bytes() for path in CONFIGS]
    contents.append(f"--epochs=3\n--flagfile={file}\n--name=x\n".encode())
    fuzz(many, damaged_bytes(*contents), check, 75, 4000)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_flagfiles_that_name_each_other_without_end(tmp_path):
    for i in range(1200):
        (tmp_path / f"{i}.cfg").write_text(f"--flagfile={tmp_path / str(i + 1)}.cfg\n")
    with pytest.raises((flags.UserError, absl_flags.Error)):
        settings_of(TRAINING, [f"--flagfile={tmp_path}/0.cfg"])


@pytest.mark.parametrize("place", ["/dev/zero", "{}"])
def test_a_flagfile_that_might_never_end_is_not_read(place, tmp_path):
    with pytest.raises(UserError, match="must be a file"):
        settings_of(TRAINING, [f"--flagfile={place.format(tmp_path)}"])
