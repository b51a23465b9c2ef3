"""Which files of a folder are the images of which class and split, and which are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pnil_tf.data.pictures import SUFFIXES
from pnil_tf.errors import UserError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
# What people call the folders of the splits, in any case of letters.
SPLIT_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
_SYSTEM_FOLDERS = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "lost+found")
_NAMED = 5


@dataclass
class Layout:
    """What lies in a folder of images.

    Attributes:
        root: the folder.
        splits: by split and class, the image files, sorted.
        nested: how many images lie in subfolders of their class.
        hidden, empty, links, outside, others, damaged: folders and files that are left out, by
            the reason.
        unread: how many files there are of each kind that is not read.
    """

    root: Path
    splits: dict[str, dict[str, list[Path]]] = field(default_factory=dict)
    nested: int = 0
    hidden: list[Path] = field(default_factory=list)
    empty: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    outside: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)

    @property
    def images(self) -> Iterable[Path]:
        """Every image of every class and split."""
        for classes in self.splits.values():
            for paths in classes.values():
                yield from paths

    def leave_out(self, damaged: Collection[Path], given: str) -> None:
        """Take images that cannot be used out of their classes.

        Args:
            damaged: the files.
            given: the folder as the user called it.

        Raises:
            UserError: if a class is left without training images, or another split without any.
        """
        self.damaged += damaged
        self.splits = {
            split: {
                name: [path for path in paths if path not in damaged]
                for name, paths in classes.items()
            }
            for split, classes in self.splits.items()
        }
        empty = [name for name, paths in self.splits[TRAIN].items() if not paths]
        if empty:
            raise UserError(
                f"folder:{given} has classes without any training image that can be used: "
                f"{', '.join(empty[:_NAMED])}. Repair their images, or remove these classes."
            )
        empty = [split for split, classes in self.splits.items() if not any(classes.values())]
        if empty:
            raise UserError(
                f"folder:{given} has no {' and no '.join(empty)} image that can be used, though "
                "it has a folder of them. Repair these images, or remove the folder."
            )

    def shown(self, path: Path) -> str:
        """A path within the folder, fit for a message."""
        return shown(path.relative_to(self.root).as_posix())

    def left_out(self) -> tuple[str, ...]:
        """One line for each reason for which something was left out."""
        kinds = ", ".join(
            f"{n:,} {'without a suffix' if not suffix else shown(suffix)}"
            for suffix, n in self.unread.most_common(_NAMED)
        )
        more = "" if len(self.unread) <= _NAMED else ", and others"
        lines = [
            self._line("hidden or of the system", self.hidden),
            self._line("folder without an image that is read", self.empty),
            self._line("link to a folder that is read anyway", self.links),
            self._line("image outside the class folders", self.outside),
            self._line("folder beside the splits", self.others),
            self._line("image that cannot be used", self.damaged),
            f"of other kinds: {kinds}{more}" if kinds else "",
        ]
        return tuple(line for line in lines if line)

    def _line(self, what: str, paths: list[Path]) -> str:
        if not paths:
            return ""
        names = ", ".join(self.shown(path) for path in sorted(paths)[:_NAMED])
        more = f", and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        return f"{what}: {names}{more}"


def shown(name: str) -> str:
    """A name fit for a message: what cannot be shown is escaped."""
    readable = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in readable)


def find(root: Path, given: str) -> Layout:
    """Look through `root/SPLIT/CLASS/*`, or `root/CLASS/*`.

    A class is a folder with at least one file whose name says that it is an image, in it or in
    its subfolders. Hidden entries and links to folders inside `root`, or above it, are left out.

    Args:
        root: an existing folder.
        given: as the user called it.

    Raises:
        UserError: if two folders are the same split, there is a test split without training
            images, fewer than two classes, or the splits do not fit together.
    """
    layout = Layout(root)
    walk = _Walk(layout)
    folders, loose = walk.entries(root)
    splits: dict[str, Path] = {}
    for folder in folders:
        split = SPLIT_FOLDERS.get(folder.name.lower())
        if split is None:
            continue
        if split in splits:
            raise UserError(
                f"folder:{given} has two folders for its {split} images: {splits[split].name} and "
                f"{folder.name}. Keep one of them."
            )
        splits[split] = folder
    walked = {split: _classes(walk, folder) for split, folder in splits.items()}
    if any(classes for classes in walked.values()):
        if not walked.get(TRAIN):
            there = ", ".join(f"{splits[split].name}/" for split, c in walked.items() if c)
            raise UserError(
                f"folder:{given} has {there} and no train/ with class folders. Lay the images out "
                "as PATH/train/CLASS/* and PATH/test/CLASS/*, or as PATH/CLASS/*."
            )
        layout.splits = {split: classes for split, classes in walked.items() if classes}
        layout.empty += [splits[split] for split, classes in walked.items() if not classes]
        layout.others = [folder for folder in folders if folder not in splits.values()]
        layout.outside += loose
    else:
        layout = Layout(root)
        layout.splits = {TRAIN: _classes(_Walk(layout), root)}
    _check(layout, given)
    return layout


def _classes(walk: _Walk, folder: Path) -> dict[str, list[Path]]:
    """The images of every class folder in `folder` that has any."""
    folders, loose = walk.entries(folder)
    walk.layout.outside += loose
    classes = {}
    for one in folders:
        direct, below = walk.images(one)
        if direct or below:
            classes[one.name] = sorted(direct + below)
            walk.layout.nested += len(below)
        else:
            walk.layout.empty.append(one)
    return classes


class _Walk:
    """Reads folders and notes what is left out."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._root = layout.root.resolve()
        self._linked: set[Path] = set()

    def entries(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The subfolders and the image files in a folder, each sorted."""
        folders, images = [], []
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(
                f"The folder {shown(str(folder))} cannot be read: {error.strerror}. Change its "
                "permissions or remove it."
            ) from error
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
                self.layout.hidden.append(path)
            elif path.is_dir():
                if not entry.is_symlink() or self._leads_elsewhere(path):
                    folders.append(path)
                else:
                    self.layout.links.append(path)
            elif entry.name.lower().endswith(SUFFIXES):
                images.append(path)
            else:
                self.layout.unread[path.suffix.lower()] += 1
        return folders, images

    def images(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """The image files in a folder, and those in its subfolders at any depth."""
        waiting, direct = self.entries(folder)
        below = []
        while waiting:
            further, images = self.entries(waiting.pop())
            waiting += further
            below += images
        return direct, below

    def _leads_elsewhere(self, link: Path) -> bool:
        """Whether a link's folder is neither part of the data, nor holds them, nor was read."""
        target = link.resolve()
        related = target == self._root or self._root in target.parents
        if related or target in self._root.parents or target in self._linked:
            return False
        self._linked.add(target)
        return True


def _check(layout: Layout, given: str) -> None:
    for name in sorted(set().union(*layout.splits.values())):
        if not name.isprintable():  # a name that is no UTF-8 is not, either
            raise UserError(
                f"folder:{given} has a class whose name cannot be shown: {shown(name)!r}. Rename "
                "its folder."
            )
    classes = layout.splits[TRAIN]
    if len(classes) < 2:
        left_out = "; ".join(layout.left_out())
        raise UserError(
            f"folder:{given} needs at least two class folders that hold images "
            f"({', '.join(SUFFIXES)}). Found: {', '.join(classes) or 'none'}"
            f"{f'; left out: {left_out}' if left_out else ''}. Lay the images out as "
            "PATH/train/CLASS/* and PATH/test/CLASS/*, or as PATH/CLASS/*."
        )
    for split, others in layout.splits.items():
        unknown = set(others) - set(classes)
        if unknown:
            raise UserError(
                f"folder:{given} has classes in its {split} images that have no training images: "
                f"{', '.join(sorted(unknown))}. Rename or remove them."
            )
