"""The page at `/` and the files that it loads, as they stand in `serve/page/`.

Anybody gets them: they hold no secret. The page reads the API as any client does and asks nobody else for anything;
its headers forbid browsers all but that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.responses import Response

FILES = Path(__file__).with_name("page")
INDEX = "index.html"
MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
PATHS = {"/" if f.name == INDEX else f"/page/{f.name}": f for f in sorted(FILES.iterdir()) if f.suffix in MEDIA_TYPES}
"""Path of a request -> file."""
HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def add_page(app: Any) -> None:
    """Add a route for every file of the page to a FastAPI application or router."""
    for path, file in PATHS.items():
        answer = Response(file.read_bytes(), media_type=MEDIA_TYPES[file.suffix], headers=HEADERS)
        app.add_api_route(path, _always(answer), include_in_schema=False)


def _always(answer: Response) -> Callable[[], Awaitable[Response]]:
    async def send() -> Response:
        return answer

    return send
