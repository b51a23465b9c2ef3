"""What a user is told of the images before any work on them begins."""

from __future__ import annotations

from pnil_tf.data.types import Dataset

# More classes than these are told by their extremes; the run's record has them all.
_LISTED_CLASSES = 20


def summary(data: Dataset) -> str:
    """A block of lines: classes, images of each class and set, and what was left out and why."""
    height, width, channels = data.input_shape
    total = sum(data.counts.values())
    lines = [
        f"Images: {data.name}, from {data.source_detail}",
        f"  {total:,} images of {height} x {width} x {channels}, {data.num_classes} classes",
        *_table(data),
        f"  validation and test: {data.splitting}",
    ]
    if data.note:
        lines.append(f"  to be called: {data.note}")
    lines += [f"  {remark}" for remark in data.remarks]
    lines += [f"  left out, {what}" for what in data.left_out]
    return "\n".join(lines)


def _table(data: Dataset) -> list[str]:
    counts = data.class_counts
    rows = list(zip(data.class_names, *counts.values(), strict=True))
    if len(rows) > _LISTED_CLASSES:
        fewest = min(rows, key=lambda row: row[1])
        most = max(rows, key=lambda row: row[1])
        rows = [(f"fewest: {fewest[0]}", *fewest[1:]), (f"most: {most[0]}", *most[1:])]
    rows.append(("all", *data.counts.values()))
    width = max(len("class"), *(len(row[0]) for row in rows))
    head = f"  {'class':{width}}" + "".join(f"{name:>12}" for name in counts)
    return [head] + [
        f"  {name:{width}}" + "".join(f"{n:>12,}" for n in numbers) for name, *numbers in rows
    ]
