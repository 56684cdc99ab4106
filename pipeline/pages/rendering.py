"""How pages are made of templates: what is missing is an error, blocks leave no empty lines."""

from __future__ import annotations

from pathlib import Path

import jinja2


def environment(folder: Path, escape: bool = True) -> jinja2.Environment:
    """The templates in ``folder``. ``escape``: texts may come from strangers (HTML)."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=escape,  # noqa: S701  # Markdown has nothing to escape
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
