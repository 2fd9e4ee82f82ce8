"""The sheet as Markdown, and the same as one HTML page that needs no other file."""

import base64
import hashlib
import json
import re
import shlex
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_export.handover.contents import Sheet
from data_export.handover.loading import kit_zip
from data_export.wording import as_code, harmless, visible

_TEMPLATES = Path(__file__).parent / "templates"
_SPECIAL = re.compile(r"([\\`*_\[\]<>!|~&])")
_LANGUAGES = {"sql": "sql", "py": "python", "sh": "sh"}
_LONGEST = 1200  # characters of an address
_BY_HAND = "Save each file below under its path, in the folder `loaders`. Each may be run as often as you like."
_BY_LINK = "Save and unpack LOADERS_ZIP, which holds all files below. Each may be run as often as you like."


def markdown(sheet: Sheet, *, kit_words: str = _BY_HAND) -> str:
    """Foreign text is code or escaped, so that no markup comes from a customer file."""
    values = {**sheet.values, "kit_words": kit_words}
    values["root"] = _unfenced(values["root"])
    values["kit"] = [each | {"language": _LANGUAGES[each["path"].rpartition(".")[2]]} for each in values["kit"]]
    setup = _render(sheet.handover.template, values).strip() if sheet.handover.template else ""
    return _render(_TEMPLATES / "sheet.md", {**values, "setup": setup})


def html(sheet: Sheet, engine: str | None = None) -> str:
    """One page; the loader kit is an archive in it."""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(markdown(sheet, kit_words=_BY_LINK))
    for token, following in pairwise([*tokens, tokens[-1]]):
        if token.type == "heading_open":
            token.attrSet("id", re.sub(r"[^a-z0-9]+", "-", following.content.lower()).strip("-"))
        elif token.type == "fence":
            token.type, token.content = "html_block", _code_block(token.info, token.content)
    archive = base64.b64encode(kit_zip(engine)).decode()
    link = f'<a download="loaders.zip" href="data:application/zip;base64,{archive}">loaders.zip</a>'
    body = parser.renderer.render(tokens, parser.options, {}).replace("LOADERS_ZIP", link, 1)
    title = f"Data export {sheet.values['name']}"
    return _render(_TEMPLATES / "sheet.html", {"title": title, "style": Markup(_style()), "body": Markup(body)})  # noqa: S704 - made by markdown-it without HTML, and a file of ours


def style_source() -> str:
    """What a Content-Security-Policy names to let the page's own style in, and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()}'"


def _style() -> str:
    return (_TEMPLATES / "sheet.css").read_text(encoding="utf-8")


def _code_block(info: str, content: str) -> str:
    """A file of the kit is folded, under its path."""
    code = f"<pre><code>{escape(content)}</code></pre>\n"
    _, _, path = info.strip().partition(" ")
    return f"<details><summary>{escape(path)}</summary>{code}</details>\n" if path else code


def _render(template: Path, values: dict[str, Any]) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=jinja2.select_autoescape(),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "code": lambda value: as_code(value, _LONGEST),
        "cell": lambda value: as_code(value, _LONGEST).replace("|", "\\|"),
        "rawcell": lambda value: str(value).replace("|", "\\|"),
        "text": lambda value: _SPECIAL.sub(r"\\\1", harmless(value)),
        "sh": lambda value: shlex.quote(visible(value)),
        "json": json.dumps,
    }
    return environment.get_template(template.name).render(values)


def _unfenced(text: str) -> str:
    """A path that no code block ends at."""
    return f"./{text}" if text.startswith(("`", "~", " ")) else text
