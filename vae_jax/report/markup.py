"""HTML in which text cannot become markup: what is no `Html` is escaped."""

import base64
import functools
import gzip
import hashlib
import html
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from vae_jax.comparison.results import Number
from vae_jax.plots.captions import unsigned_zero

MINUS = "\N{MINUS SIGN}"
VOID = ("meta", "img", "br")


class Html(str):
    """Markup, which is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element of elements and of text, which is escaped; `class_` is the attribute class, None leaves one out."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{words}>" if name in VOID else f"<{name}{words}>{join(*children)}</{name}>")


def join(*children: Any) -> Html:
    """Elements and text one after the other."""
    return Html("".join(child if isinstance(child, Html) else html.escape(str(child)) for child in children))


def data(id_: str, value: Any) -> Html:
    """A value for the scripts of the page, which find it as JSON by its id."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Html(f'<script type="application/json" id="{html.escape(id_)}">{content}</script>')


@functools.lru_cache(maxsize=2)  # plotly.js, for one report after the other
def compressed(id_: str, text: str) -> Html:
    """Text that the page's script unpacks, at a third of its size or less."""
    content = base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()
    return tag("script", Html(content), type="text/plain", id=id_)


def table(label: str, names: Sequence[str], numbers: Sequence[str], rows: Sequence[Html]) -> Html:
    """A table that a click on a heading sorts: columns of text, then columns of numbers; `label` says what it is."""
    kinds = [(name, None) for name in names] + [(name, "number") for name in numbers]
    # No <button>: Chromium repeats no heading that holds one on the next sheet of paper.
    button = {"role": "button", "tabindex": "0"}
    headings = [tag("th", tag("span", name, **button), class_=kind, scope="col") for name, kind in kinds]
    element = tag("table", tag("thead", tag("tr", *headings)), tag("tbody", *rows), class_="sortable")
    return tag("div", element, class_="scroll", tabindex="0", role="region", aria_label=label)


def plot_place(name: str, caption: str) -> Html:
    """The place of a plot, which the page's script draws, with its caption, which a screen reader says too."""
    words = "Plots need a browser that runs JavaScript."
    place = tag("div", words, id=name, class_="plot", role="group", aria_label=caption)
    return tag("figure", place, tag("figcaption", caption))


def four_digits(value: Number) -> str:
    """A number to four digits; zero has no sign."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: f"{MINUS}∞"}.get(value, "NaN")
    integral = abs(value) < 1e9 and (abs(value) >= 10_000 or value == int(value))
    text = f"{value:,.0f}" if integral else f"{value:#.4g}".rstrip(".")
    return unsigned_zero(text).replace("-", MINUS)


def number_cell(value: Number | None, *details: Any, formatter: Callable[[Number], str] = four_digits) -> Html:
    """A cell with a number, which it is sorted by, and details below; what is missing, or is NaN, shows as that."""
    if value is None or math.isnan(value):
        word, meaning = ("none", "not measured") if value is None else ("NaN", "not a number")
        return tag("td", word, *details, class_="number missing", title=meaning)
    text, order = number_text(value, formatter)
    return tag("td", text, *details, class_="number", data_value=order)


def number_text(value: Number, formatter: Callable[[Number], str] = four_digits) -> tuple[str, str]:
    """A number as it is shown, and as scripts sort by it."""
    return unsigned_zero(formatter(value)), str(value).replace("inf", "Infinity").replace("nan", "NaN")


def page(title: str, style: str, body: Html, script: str, added_scripts: Sequence[str] = ()) -> Html:
    """A page whose policy lets it load nothing, and run `script` and those that this adds to the page, alone."""
    allowed = " ".join(f"'sha256-{_hash(source)}'" for source in (script, *added_scripts))
    closed = "default-src 'none'; base-uri 'none'; form-action 'none'"
    policy = f"{closed}; style-src 'unsafe-inline'; img-src data: blob:; script-src {allowed}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(style)),
    )
    document = tag("html", head, tag("body", tag("main", body), tag("script", Html(script))), lang="en")
    return Html(f"<!doctype html>\n{document}\n")


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
