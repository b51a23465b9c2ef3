"""Imports run one way: from the commands down to the random numbers, and never in a circle."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "pnil_tf"

# From the top of the house to its bottom: a room imports from lower floors alone, so two rooms
# on one floor know nothing of each other. A file of `pnil_tf/` itself is a room, too.
FLOORS = [
    {"__main__"},
    {"commands"},
    {"cli"},
    {"flags"},
    {"study", "benchmark"},
    {"runs"},
    {"serving"},
    {"certificate"},
    {"evaluation"},
    {"training", "data", "surgery", "models", "pictures"},
    {"attacks"},
    {"layers", "log_variance", "backbones"},
    {"contract"},
    {"input_gradient", "batch_norm", "copying"},
    {"rng", "arrays", "checksums", "flagfiles"},
    {"keras_internals", "stand_ins"},
    {"files", "validation", "progress", "html", "logs", "interruption", "batching"},
    {"standard_streams", "jobs", "leaving", "garbage"},
    {
        *(
            "errors",
            "vocabulary",
            "version",
            "registration",
            "visible",
            "interpreter",
            "signals",
            "drawing",
        ),
        "tensors",
    },
]
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}


def modules():
    return sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


def name_of(file):
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in modules()}


def imports_of(file):
    """The modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] == "pnil_tf":
                # The longest part that is a module; what follows is a name within it.
                while name not in MODULES and "." in name:
                    name = name.rpartition(".")[0]
                yield name


def room_of(module):
    return module.split(".")[1] if "." in module else "the package's own namespace"


@pytest.mark.parametrize("module", MODULES)
def test_a_room_imports_from_lower_floors_alone(module):
    room = room_of(module)
    assert room in FLOOR_OF, f"the room {room} has no floor yet: give it one above"
    above = [
        other
        for other in imports_of(MODULES[module])
        if room_of(other) != room and FLOOR_OF.get(room_of(other), -1) <= FLOOR_OF[room]
    ]
    assert not above


def test_there_is_no_circle_of_imports():
    graph = {module: set(imports_of(file)) - {module} for module, file in MODULES.items()}
    while leaves := {module for module, others in graph.items() if not others & graph.keys()}:
        graph = {module: others for module, others in graph.items() if module not in leaves}
    assert not graph, "these files import each other, or something that does"


@pytest.mark.parametrize("module", MODULES)
def test_the_commands_alone_know_absl(module):
    tree = ast.walk(ast.parse(MODULES[module].read_text("utf-8")))
    imported = {alias.name for node in tree if isinstance(node, ast.Import) for alias in node.names}
    tree = ast.walk(ast.parse(MODULES[module].read_text("utf-8")))
    imported |= {str(node.module) for node in tree if isinstance(node, ast.ImportFrom)}
    if any(name.split(".")[0] == "absl" for name in imported):
        assert module in ("pnil_tf.cli", "pnil_tf.flags")


def test_private_names_of_keras_and_tensorflow_stand_in_one_file():
    private = (
        "_flatten_layers",
        "_keras_history",
        "_keras_logits",
        "tensorflow.python",
        "keras.src",
    )
    for module, file in MODULES.items():
        if module != "pnil_tf.keras_internals":
            text = file.read_text("utf-8")
            assert [name for name in private if name in text] == [], module


@pytest.mark.parametrize("word", ["run.json", "runs_dir", "classifier.keras", "flags.cfg"])
def test_the_libraries_know_no_folder_of_a_run(word):
    libraries = ("attacks", "certificate", "contract", "data", "evaluation", "serving", "training")
    knowing = [
        module
        for module, file in MODULES.items()
        if room_of(module) in libraries and word in file.read_text("utf-8")
    ]
    assert knowing == []
