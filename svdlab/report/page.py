"""Page: the contents of a report as HTML. What comes from the sweep is escaped; nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

from svdlab.report.contents import Contents
from svdlab.report.words import failures, lead, listed
from svdlab.widgets.bundle import css, esm
from svdlab.widgets.feed import VIEWER_FILES

STYLES = ("report.css", "controls.css", "viewer.css")  # the page's own first: what the viewer says of itself counts
MOST_FAILURES = 10
Place = Callable[[str], str]  # relative path -> what to write into an attribute, escaped


def build_page(contents: Contents, *, title: str, media: Mapping[str, str] | None = None) -> str:
    """The whole ``index.html``.

    Its Content-Security-Policy lets it run its own script and style, known by their hashes, and load files beside it.

    Args:
        media: relative path -> data URI, for a page that stands alone.
    """
    script, style = esm(*VIEWER_FILES, "report.js"), css(*STYLES)
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src 'self' file: data: blob:",
            "media-src 'self' file: data: blob:",
            "connect-src 'self' data:",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    place = (media or {}).get
    parts = [
        _head(contents, title, lambda path: escape(place(path, path))),
        _clips(),
        _plots(contents, lambda path: escape(place(path, path))),
        _cells(contents),
        _repeat(contents),
        _foot(contents),
    ]
    return (
        "<!doctype html>\n"
        f'<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{style}</style>\n</head>\n<body>\n'
        f"{chr(10).join(part for part in parts if part)}\n"
        f'<script type="application/json" id="report-data">{json_text(_data(contents, media))}</script>\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def json_text(value: Any) -> str:
    """JSON that may stand inside a script element: no ``<``, so that nothing in it can end the element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _data(contents: Contents, media: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        "table": contents.table,
        "view": contents.view,
        # A page from disk will not go on, and it has given the notice above.
        "progress": {**contents.progress.to_dict(), "unfinished": False, "notice": None},
        "codes": contents.codes,
        "broken": contents.broken,
        "videos": contents.videos,
        "embedded": media and {path: data for path, data in media.items() if path.startswith(("clips/", "thumbs/"))},
    }


# ---------------------------------------------------------------- parts


def _head(contents: Contents, title: str, place: Place) -> str:
    paragraph = lead(contents.axes, contents.progress.counts, contents.model, running=contents.progress.running)
    lines = [f"<header>\n<h1>{escape(title)}</h1>", f"<p>{escape(paragraph)}</p>"]
    if contents.progress.notice:
        lines.append(f'<p class="report-notice">{escape(contents.progress.notice)}</p>')
    lines.append(_failed(contents))
    if contents.broken:
        count = len(contents.broken)
        lines.append(
            f"<p>{count} finished {'clip' if count == 1 else 'clips'} could not be read and cannot be shown.</p>"
        )
    files = ["results.csv", "results.parquet", *(["spec.toml"] if contents.spec else []), "manifest.json"]
    lines += [_links(files, place), _swept(contents, place)]
    return "\n".join(line for line in lines if line) + "\n</header>"


def _failed(contents: Contents) -> str:
    found = failures(contents.frame)
    if not found:
        return ""
    items = [
        f"<li>{escape(error)} <span class='report-quiet'>({count} {'cell' if count == 1 else 'cells'}, such as "
        f"{escape(cell)})</span></li>"
        for error, count, cell in found[:MOST_FAILURES]
    ]
    if len(found) > MOST_FAILURES:
        items.append(f"<li>and {len(found) - MOST_FAILURES} other errors, see the table</li>")
    return f'<p>What failed:</p>\n<ul class="report-failures">{"".join(items)}</ul>'


def _links(names: Iterable[str], place: Place) -> str:
    links = " · ".join(f'<a href="{place(name)}" download="{name}">{name}</a>' for name in names)
    return f'<p class="report-links report-quiet">{links}</p>'


def _swept(contents: Contents, place: Place) -> str:
    """Axes and fixed settings with their values, and the pictures."""
    rows = [*((name, listed(values)) for name, values in contents.axes.items())]
    rows += [(name, f"{value} (fixed)") for name, value in contents.fixed.items()]
    model = contents.model
    about = [model.get("revision") and f"revision {model['revision']}", model.get("source")]
    if model.get("name"):
        rows.append(("model", ", ".join(str(part) for part in (model["name"], *about) if part)))
    if model.get("fingerprint"):
        rows.append(("weights", str(model["fingerprint"])))
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    figures = "".join(
        f'<figure><a href="{place(full)}" download="{escape(full.removeprefix("images/"))}">'
        f'<img src="{place(small)}" alt="input picture {escape(label)}" loading="lazy"></a>'
        f"<figcaption>{escape(label)}</figcaption></figure>"
        for label, (small, full) in contents.pictures.items()
    )
    pictures = f'<div class="report-pictures">{figures}</div>' if figures else ""
    return f'<div class="report-swept"><dl>{items}</dl>{pictures}</div>' if items or pictures else ""


def _clips() -> str:
    return (
        '<section id="clips" aria-labelledby="clips-title">\n<h2 id="clips-title">Clips</h2>\n'
        '<div id="viewer"></div>\n'
        "<noscript><p>This part needs JavaScript. The clips themselves are in the folder clips.</p></noscript>\n"
        "</section>"
    )


def _plots(contents: Contents, place: Place) -> str:
    if not contents.figures:
        return ""
    shown = "".join(
        f"<figure{' class=wide' if figure.wide else ''}>"
        f'<img src="{place(figure.path)}" alt="{escape(figure.caption)}" loading="lazy">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        for figure in contents.figures
        if figure.path
    )
    left = [f"{figure.caption}: {figure.reason}" for figure in contents.figures if not figure.path]
    words = "".join(f'<p class="report-quiet">Not drawn: {escape(text)}</p>' for text in left)
    plots = f'<div class="report-plots">{shown}</div>' if shown else ""
    return f'<section aria-labelledby="plots-title">\n<h2 id="plots-title">Plots</h2>\n{plots}{words}\n</section>'


def _cells(contents: Contents) -> str:
    """Every cell in the order of the grid; the page's script lets it sort."""
    frame = contents.frame
    if frame.empty:
        return ""
    packed = contents.table
    varied = [name for name in packed["settings"] if name in contents.axes]
    places = [packed["settings"].index(name) for name in varied]
    metrics = packed["metrics"]
    units = {name: packed["facts"][name]["unit"] for name in metrics}
    failed = any(error for _, _, error, _, _ in packed["rows"])
    heads = [_th("cell"), *map(_th, varied), _th("status")]
    heads += [_th(name, unit=units[name]) for name in metrics] + ([_th("error")] if failed else [])
    rows = "".join(
        f'<tr><td><button type="button" data-cell="{escape(cell)}">{escape(cell[:8])}</button></td>'
        + "".join(_td(values[k]) for k in places)
        + f"<td>{escape(status)}</td>"
        + "".join(_td(number) for number in numbers)
        + (f'<td class="error">{escape(error or "")}</td>' if failed else "")
        + "</tr>\n"
        for cell, status, error, values, numbers in packed["rows"]
    )
    return (
        '<section aria-labelledby="cells-title">\n<h2 id="cells-title">All cells</h2>\n'
        '<div class="report-scroll" tabindex="0" role="region" aria-label="table of all cells">\n'
        f'<table id="cells-table">\n<thead><tr>{"".join(heads)}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n'
        "</div>\n</section>"
    )


def _th(name: str, *, unit: str | None = None) -> str:
    kind = "" if unit is None else ' class="number"'
    return f'<th scope="col"{kind}{f" title={chr(34)}{escape(unit)}{chr(34)}" if unit else ""}>{escape(name)}</th>'


def _td(value: Any) -> str:
    """Numbers to four digits, exact as the sorting key and on hovering."""
    if value is None:
        return '<td class="number" data-value="">&ndash;</td>'
    if isinstance(value, float) and math.isfinite(value):
        return f'<td class="number" data-value="{value!r}" title="{value!r}">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value}</td>'
    return f"<td>{escape(str(value))}</td>"


def _repeat(contents: Contents) -> str:
    if not contents.spec:
        return ""
    folder = str(contents.model.get("source") or "").startswith("folder")
    note = "<p>The model came from a folder: put its path in the place of its name.</p>\n" if folder else ""
    return (
        '<section aria-labelledby="repeat-title">\n<h2 id="repeat-title">How to make it again</h2>\n'
        "<p>In the folder of this report, with svdlab installed. The same weights give cells with the same keys.</p>\n"
        f'<pre tabindex="0"><code>svdlab sweep spec.toml --out again</code></pre>\n{note}'
        f'<details><summary>spec.toml</summary>\n<pre tabindex="0"><code>{escape(contents.spec)}</code></pre>\n'
        "</details>\n</section>"
    )


def _foot(contents: Contents) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in contents.manifest["versions"].items())
    written = contents.manifest["written"]
    return f'<footer><p class="report-quiet">Written {escape(written)} with {escape(packages)}.</p></footer>'
