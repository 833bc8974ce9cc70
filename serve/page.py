"""Puts `page.html` together from the files of `serve/page/`: one document that asks for nothing but its own server.

Run `python -m burnish.serve.page` after a change there. The served page is the file that this writes; no request calls
this module.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

SCRIPTS = ("wire.js", "region.js", "compare.js", "references.js", "app.js")
"""In the order in which the page runs them; they share one scope."""
PAGE = Path(__file__).with_name("page.html")


def assembled(sources: Path) -> str:
    """The document: style and scripts put in, and a Content-Security-Policy that allows these two by their hash.

    Args:
        sources: directory of `index.html`, `style.css` and the scripts.

    Raises:
        ValueError: a placeholder is missing, or a script holds a closing tag.
    """
    style = f"\n{(sources / 'style.css').read_text()}"
    parts = ((sources / name).read_text().replace('"use strict";\n\n', "") for name in SCRIPTS)
    script = '\n"use strict";\n' + "".join(parts)
    if "</script" in script or "</style" in style:
        raise ValueError("a closing tag inside a script or a style ends it: write it in two parts")
    text = (sources / "index.html").read_text()
    policy = (
        "default-src 'none'; connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(script)}; style-src {_hash(style)}"
    )
    for mark, content in (("/* policy */", policy), ("/* style.css */", style), ("/* scripts */", script)):
        if text.count(mark) != 1:
            raise ValueError(f"index.html must hold {mark!r} once")
        text = text.replace(mark, content)
    return text


def _hash(text: str) -> str:
    """The text's source expression of Content-Security-Policy, level 2."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


if __name__ == "__main__":
    PAGE.write_text(assembled(PAGE.with_name("page")))
