"""HTML pages from templates of this package; each is one file that needs no network."""

import html
import importlib.resources
import re
from collections.abc import Mapping
from typing import Any

import jinja2

HOME = importlib.resources.files("jaxattn")
_NAMESPACE = re.compile(r'\sxmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', re.DOTALL)
_NAME = re.compile(r'(\sid="|="#|url\(#)')


def render(template: str, filters: Mapping[str, Any] | None = None, **values) -> str:
    """The page of a template, which is named by its path inside the package."""
    # Tokens, labels and file names are anybody's text: everything is escaped.
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.FunctionLoader(_read),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(template).render(**values)


def _read(name: str) -> str:
    return HOME.joinpath(name).read_text("utf-8")


def inline(svg: str, name: str, told: str) -> str:
    """An SVG file as an element of a page, `told` to who cannot see it.

    `name` keeps the names inside it apart from those of other pictures. Black becomes
    the colour of the text around, and white paper is left out, so that it can be read
    on a dark page, too.
    """
    body = svg[svg.index("<svg") :]
    body = _NAMESPACE.sub("", body)
    body = _NAME.sub(lambda match: f"{match.group(1)}{name}-", body)
    body = body.replace("#000000", "currentColor").replace(
        "fill: #ffffff", "fill: none"
    )
    box = re.search(r'viewBox="[^"]*"', body)
    inside = body[body.index(">") + 1 :]
    label = html.escape(told)
    return f'<svg {box.group() if box else ""} role="img" aria-label="{label}">{inside}'
