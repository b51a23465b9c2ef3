"""The pieces of a page that needs nothing but itself."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape as _escape

from pnil_tf.visible import visible

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c1c1c; background: #fff }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } img { max-width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem;
         border-bottom: 1px solid #ddd }
.verdict { padding: .8rem 1rem; border-left: .5rem solid #888; background: #f4f4f4 }
.credible { border-color: #2e7d32 } .doubtful { border-color: #d08700 }
.obfuscated { border-color: #b3261e } .failed { font-weight: 600; color: #b3261e }
pre { overflow-x: auto; background: #f4f4f4; padding: .8rem; font-size: .8rem }
"""


def escape(text: str) -> str:
    """Returns a text as a page shows it."""
    return _escape(visible(text))


def page(title: str, heading: str, sections: Iterable[str]) -> str:
    """Returns a whole page of sections that are HTML already."""
    body = "\n".join(sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(heading)}</h1>\n{body}\n</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """Returns a titled section; `body` is HTML."""
    return f"<h2>{escape(title)}</h2>\n{body}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table of plain texts; a cell that says FAILED stands out."""

    def cell(text: str) -> str:
        mark = ' class="failed"' if text == "FAILED" else ""
        return f"<td{mark}>{escape(text)}</td>"

    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def image(png: bytes, alt: str = "") -> str:
    """Returns a picture, embedded."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img alt="{escape(alt)}" src="{source}">'
