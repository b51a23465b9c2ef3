"""Characters that hide others are spelt out, wherever text of others is shown."""

import pytest
from command import run

from pnil_tf import html
from pnil_tf.errors import UserError
from pnil_tf.runs.settings import RunSettings
from pnil_tf.serving.card import _code, _plain
from pnil_tf.visible import visible

HIDING = [
    "\x1b[2J",
    "a\rb",
    "\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2066x",
    "\u200f",
    "\udcff",
    "\u2028",
    "run\u200bs",
    "\ufeffrun",
]


@pytest.mark.parametrize("text", HIDING)
def test_what_hides_is_spelt_out_everywhere(text):
    shown = visible(text)
    assert shown.isascii()
    assert "\\" in shown
    assert visible(shown) == shown
    assert shown in html.table([text], [[text]]) + html.image(b"", text)
    for said in (_plain(text), _code(text)):
        assert said.isascii()
        assert said.isprintable()


@pytest.mark.parametrize("text", ["", "naïve café № 7", "日本語", "two\nlines\tand more", "🐈"])
def test_all_other_text_stays(text):
    assert visible(text) == text


@pytest.mark.parametrize("name", [*HIDING, ".lock", ".x.tmp", ".hidden", "a\nb", "a\tb"])
def test_a_run_has_a_name_that_can_be_seen(name):
    with pytest.raises(UserError, match=r"name must|name is one"):
        RunSettings(name=name)


@pytest.mark.parametrize("name", ["x.tmp", "Gerät № 7 – naïve café", "a b", "v1.0"])
def test_other_names_are_taken(name):
    assert RunSettings(name=name).name == name


def test_a_command_shows_no_control_characters(tmp_path):
    status, _, err = run("evaluate.py", f"--model={tmp_path}/\x1b[31mred\u202e", timeout=60)
    assert status == 2
    assert "\\x1b[31mred\\u202e" in err
    assert "\x1b" not in err
    assert "\u202e" not in err
