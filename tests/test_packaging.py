"""The package's metadata, its lock, and what it imports agree with one another."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

# Where a distribution's import name is not its own name.
IMPORT_NAMES = {
    "absl-py": "absl",
    "adversarial-robustness-toolbox": "art",
    "pillow": "PIL",
}


@pytest.fixture(scope="module")
def setup_arguments():
    """What setup.py hands to setuptools."""
    received = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("setuptools.setup", lambda **arguments: received.update(arguments))
        patch.chdir(ROOT)
        runpy.run_path(str(ROOT / "setup.py"))
    return received


def required(setup_arguments):
    """install_requires by name."""
    lines = map(Requirement, setup_arguments["install_requires"])
    return {canonicalize_name(requirement.name): requirement for requirement in lines}


def locked(python=None):
    """The versions that requirements.lock gives Linux with this Python, or else this machine."""
    environment = python and {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
        "os_name": "posix",
    }
    versions = {}
    for line in re.findall(r"^[a-z0-9][^\\\n]*", LOCK, re.MULTILINE):
        requirement = Requirement(line.strip())
        if requirement.marker is None or requirement.marker.evaluate(environment):
            name = canonicalize_name(requirement.name)
            assert name not in versions, f"{name} is locked twice for Python {python}"
            (pin,) = requirement.specifier
            assert pin.operator == "==", f"{line} is no exact version"
            versions[name] = Version(pin.version)
    return versions


def imported_names(file):
    """Top-level names that a source file imports, relative imports aside."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def test_version_has_one_source(setup_arguments):
    assert setup_arguments["version"] == __import__("pnil_tf").__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == setup_arguments["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{setup_arguments['version']}]" in changelog


def test_what_a_package_index_shows_leads_nowhere_but_to_the_web(setup_arguments):
    shown = setup_arguments["long_description"]
    targets = re.findall(r"\]\(([^)]*)\)", shown)
    assert targets
    assert [target for target in targets if not target.startswith("https://")] == []
    assert "checks, certificates, data, serving" in " ".join(shown.split())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(shown.splitlines()) == len(readme.splitlines())


def test_python_range(setup_arguments):
    assert setup_arguments["python_requires"] == ">=3.10,<3.14"
    classifiers = setup_arguments["classifiers"]
    assert [c.rpartition(" ")[2] for c in classifiers if "Python :: 3." in c] == PYTHONS


def test_every_package_folder_is_packaged(setup_arguments):
    folders = {file.parent for file in (ROOT / "pnil_tf").rglob("*.py")}
    assert {".".join(folder.relative_to(ROOT).parts) for folder in folders} == set(
        setup_arguments["packages"]
    ), "a folder of pnil_tf has no __init__.py"
    assert (ROOT / "pnil_tf" / "py.typed").exists()
    assert "py.typed" in setup_arguments["package_data"]["pnil_tf"]


def sources():
    return sorted([*(ROOT / "pnil_tf").rglob("*.py"), *(ROOT / "bin").glob("*.py")])


@pytest.mark.parametrize("file", sources(), ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_are_declared(file, setup_arguments):
    extras = setup_arguments["extras_require"]
    declared = [*setup_arguments["install_requires"]]
    declared += [
        line for extra in ("offline", "onnx", "peers", "ray", "streaming") for line in extras[extra]
    ]
    names = {canonicalize_name(Requirement(line).name) for line in declared}
    known = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in names}
    # A script in bin/ can import its neighbours.
    known |= set(sys.stdlib_module_names) | {"pnil_tf"}
    if file.parent == ROOT / "bin":
        known |= {neighbour.stem for neighbour in file.parent.glob("*.py")}
    assert set(imported_names(file)) <= known, "setup.py does not declare an import"


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_setup(python, setup_arguments):
    versions = locked(python)
    extras = setup_arguments["extras_require"]
    for line in [*setup_arguments["install_requires"], *extras["offline"], *extras["dev"]]:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        assert name in versions, f"{name} is not in requirements.lock: make lock"
        assert requirement.specifier.contains(versions[name]), f"{line}: make lock"


def test_tensorflow_is_one_range(setup_arguments):
    (gpu,) = map(Requirement, setup_arguments["extras_require"]["gpu"])
    assert gpu.specifier == required(setup_arguments)["tensorflow"].specifier
    assert gpu.extras == {"and-cuda"}


def test_lock_is_hashed_and_belongs_to_no_machine():
    assert not re.search(r"://|^-|^\.|\s@\s|(^|\s)/\w", LOCK, re.MULTILINE)
    entries = re.findall(r"^[a-z0-9][^\n]*(?:\n +[^\n]*)*", LOCK, re.MULTILINE)
    assert len(entries) > 50
    unhashed = [entry for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)]
    assert not unhashed


@pytest.mark.parametrize("name", ["tensorflow", "keras", "cleverhans", "tensorflow-datasets"])
def test_installed_versions_are_declared(name, setup_arguments):
    assert required(setup_arguments)[name].specifier.contains(metadata.version(name))


def test_lock_is_complete():
    """bin/in_env installs the lock with --no-deps, so nothing that it needs may be missing."""
    versions = locked()
    problems = []
    for name in versions:
        for line in metadata.requires(name) or []:
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                version = versions.get(canonicalize_name(requirement.name))
                if version is None or not requirement.specifier.contains(version):
                    problems.append(f"{name} needs {line}, the lock has {version}")
    assert not problems


def test_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def test_citation_names_the_paper(setup_arguments):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == setup_arguments["license"]
    (paper,) = citation["references"]
    assert paper["title"] == "Towards Rapid and Robust Adversarial Training with One-Step Attacks"
    assert [a["family-names"] for a in paper["authors"]] == ["Schwinn", "Raab", "Eskofier"]
    assert paper["identifiers"][0]["value"] == "arXiv:2002.10097"


IN_ENV = ROOT / "bin" / "in_env"


def in_env(script, *command, **environment):
    return subprocess.run(
        [script, *command],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def stub_tree(tmp_path):
    """A copy of bin/in_env, under a path with a space, with no environment yet."""
    tree = tmp_path / "a tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(IN_ENV, tree / "bin")
    for name in ("setup.py", "requirements.lock"):
        shutil.copy(ROOT / name, tree)
    return tree


def test_in_env_without_a_command():
    result = in_env(IN_ENV)
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: bin/in_env")


def test_in_env_leaves_a_foreign_folder_alone(stub_tree):
    (stub_tree / ".venv").mkdir()
    (stub_tree / ".venv" / "precious").touch()
    result = in_env(stub_tree / "bin" / "in_env", "true")
    assert result.returncode == 1
    assert "was not made by this script" in result.stderr
    assert [file.name for file in (stub_tree / ".venv").iterdir()] == ["precious"]


def test_in_env_without_a_fitting_python(stub_tree, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("sh", "dirname", "cksum", "cat", "sed"):
        (tools / name).symlink_to(shutil.which(name))
    old = tools / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    result = in_env(stub_tree / "bin" / "in_env", "true", PATH=str(tools))
    assert result.returncode == 1
    assert "apt-get install python3" in result.stderr
    assert not (stub_tree / ".venv").exists()

    result = in_env(stub_tree / "bin" / "in_env", "true", PNIL_PYTHON=str(old))
    assert result.returncode == 1
    assert f"PNIL_PYTHON={old} is not" in result.stderr


@pytest.mark.slow
def test_pip_install_works_without_the_repository(tmp_path):
    """`pip install .` in an environment of its own; the dependencies are borrowed from this one."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "pnil_tf", source / "pnil_tf")
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    borrowed = [path for path in sys.path if path.endswith("-packages")]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index"]
    subprocess.run(
        [*pip, "--no-deps", "--no-build-isolation", source],
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(borrowed)},
    )
    shutil.rmtree(source)
    site = next(environment.glob("lib/python*/site-packages"))
    assert (site / "pnil_tf" / "py.typed").exists()
    (site / "borrowed.pth").write_text("\n".join(borrowed))
    check = "import pnil_tf; print(pnil_tf.__file__, pnil_tf.__version__)"
    result = subprocess.run(
        [python, "-c", check],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    file, version = result.stdout.split()
    assert Path(file).is_relative_to(site)
    assert version == metadata.version("pnil_tf")
    assert (site / "pnil_tf" / "configs" / "mnist_nfgsm_pnil.cfg").is_file()
    overview = subprocess.run(
        [environment / "bin" / "pnil-tf"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "find-lr" in overview.stdout
