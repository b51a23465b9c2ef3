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
dt { font-weight: 600; margin-top: .5rem } dd { margin: 0 0 0 1rem; overflow-wrap: anywhere }
.wide { overflow-x: auto } .wide img { max-width: none; width: max(100%, 44rem) }
@media (min-width: 40rem) {
  .facts { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem }
  .facts dt, .facts dd { margin: 0 }
}
@media (max-width: 40rem) {
  body { margin: 1rem auto } h1 { font-size: 1.25rem }
  thead { display: none }
  table, tbody, tr, td { display: block; width: auto }
  tr { margin: .8rem 0; border-top: 2px solid #888 }
  td { display: flex; justify-content: space-between; gap: 1rem; padding: .15rem 0;
       overflow-wrap: anywhere; text-align: right }
  td::before { content: attr(data-label); flex: 0 0 35%; color: #555; text-align: left }
  td:empty, td:first-child::before, td[data-label=""]::before { display: none }
  td:first-child { font-weight: 600; text-align: left }
}
"""


def escape(text: str) -> str:
    """Returns a text as a page shows it."""
    return _escape(visible(text))


def page(title: str, heading: str, sections: Iterable[str]) -> str:
    """Returns a whole page of sections that are HTML already."""
    body = "\n".join(sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(heading)}</h1>\n{body}\n</body></html>\n"
    )


def section(title: str, body: str) -> str:
    """Returns a titled section; `body` is HTML."""
    return f"<h2>{escape(title)}</h2>\n{body}"


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a table of plain texts; a cell that says FAILED stands out.

    On a narrow screen every row is a card: its cells stand below each other, with their heads.
    """
    heads = list(heads)

    def cell(head: str, text: str) -> str:
        mark = ' class="failed"' if text == "FAILED" else ""
        return f'<td data-label="{escape(head)}"{mark}>{escape(text)}</td>'

    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "\n".join(f"<tr>{''.join(map(cell, heads, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def facts(entries: Iterable[tuple[str, str]]) -> str:
    """Returns names and what they are, side by side where there is room, plain texts."""
    return definitions(entries).replace("<dl>", '<dl class="facts">', 1)


def wide(picture: str) -> str:
    """Returns a picture that a narrow screen moves along instead of shrinking it."""
    return f'<div class="wide">{picture}</div>'


def definitions(entries: Iterable[tuple[str, str]]) -> str:
    """Returns a list of terms and what they mean, plain texts."""
    items = (f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in entries)
    return f"<dl>{''.join(items)}</dl>"


def image(png: bytes, alt: str = "") -> str:
    """Returns a picture, embedded; `alt` is what it shows, for those who cannot see it."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img alt="{escape(alt)}" src="{source}">'
