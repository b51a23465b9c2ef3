"""In Python, messages speak of arguments; in a command, of its flags."""

import ast
import re
from pathlib import Path

import pytest

from pnil_tf.errors import argument, repeated_with, speaking_of_flags

PACKAGE = Path(__file__).resolve().parent.parent / "pnil_tf"
FOR_COMMANDS = {
    *("cli.py", "flags.py", "__main__.py"),
    "errors.py",  # `argument` itself
    "runs/own_files.py",  # a run's flags.cfg, which is a file of flags
    "runs/description.py",
    *("benchmark/startup.py", "benchmark/memory.py"),  # start commands
}
A_FLAG = re.compile(r"(?<![\w-])--(?=[a-z]|$)")
A_WHOLE_COMMAND = re.compile(r"the command [a-z-]* *--.*")


@pytest.mark.parametrize(
    ("name", "value", "in_python", "in_a_command"),
    [
        ("resume", None, "resume", "--resume"),
        ("workers", 2, "workers=2", "--workers=2"),
        ("epsilon", "8/255", "epsilon=8/255", "--epsilon=8/255"),
        ("overwrite", True, "overwrite=True", "--overwrite"),
        ("checks", False, "checks=False", "--nochecks"),
        ("engine", "ray", "engine='ray'", "--engine=ray"),
        ("pixel_range", (0.0, 255.0), "pixel_range=(0, 255)", "--pixel_range=0,255"),
    ],
)
def test_an_argument_is_written_as_its_reader_would_give_it(name, value, in_python, in_a_command):
    assert argument(name, value) == in_python
    with speaking_of_flags():
        assert argument(name, value) == in_a_command


def test_how_to_go_on_is_said_for_a_call_and_for_a_command():
    assert repeated_with("resume") == "the same call with resume=True"
    with speaking_of_flags():
        assert repeated_with("resume") == "the same command with --resume"


def texts(file):
    """The texts in a file that somebody may read: all but docstrings, f-strings in one piece."""
    tree = ast.parse(file.read_text("utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            skipped.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            skipped.update(node.values)
            values = [part.value if isinstance(part, ast.Constant) else "x" for part in node.values]
            yield "".join(values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            yield node.value


@pytest.mark.parametrize(
    "file",
    sorted(str(file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py")),
)
def test_no_text_of_the_library_names_a_flag_of_a_command(file):
    if file in FOR_COMMANDS or file.startswith("commands/"):
        return
    found = [t for t in texts(PACKAGE / file) if A_FLAG.search(A_WHOLE_COMMAND.sub("", t))]
    assert found == [], "name it by pnil_tf.errors.argument"


NOTHING_RECEIVED = re.compile(
    r"Received: (neither|both|nothing|none|no |it\b|this\b|the same|something|shape <unknown>)",
    re.I,
)


def test_what_was_received_is_said_only_where_something_was():
    found = [
        text
        for file in PACKAGE.rglob("*.py")
        for text in texts(file)
        if NOTHING_RECEIVED.search(text)
    ]
    assert found == []
