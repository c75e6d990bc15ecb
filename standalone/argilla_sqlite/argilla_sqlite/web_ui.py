"""Argilla's web UI as its wheel ships it, without the one request it makes to another host (Google's web fonts)."""

import re
import tempfile
from pathlib import Path
from typing import Final

from argilla_server.static_rewrite import RewriteStaticFiles
from fastapi import FastAPI

from argilla_sqlite.errors import UnsupportedVersionError

_FONT_IMPORT: Final = re.compile(r"@import url\(https://fonts\.googleapis\.com/[^)]*\);?")


def served_directory(app: FastAPI) -> Path:
    """Return the temporary copy of the UI that Argilla makes when it is imported, and never removes (14 MB).

    Raises UnsupportedVersionError when the UI is not where Argilla 2.8.0 puts it.
    """
    for route in app.routes:
        mounted = getattr(route, "app", None)
        if isinstance(mounted, RewriteStaticFiles):
            directory = Path(str(mounted.directory))
            # The installed files must stay as they are.
            if directory.is_relative_to(tempfile.gettempdir()):
                return directory
        elif isinstance(mounted, FastAPI) and any(getattr(inner, "name", "") == "static" for inner in mounted.routes):
            return served_directory(mounted)
    raise UnsupportedVersionError(
        "Argilla's web UI is not served from a temporary copy, as 2.8.0 does; "
        "reinstall argilla-server==2.8.0 from its wheel."
    )


def remove_web_fonts(directory: Path) -> None:
    """Remove the font imports from the style sheets below `directory`; the UI falls back to the system's fonts."""
    for style_sheet in directory.rglob("*.css"):
        text = style_sheet.read_text(encoding="utf-8")
        without_fonts = _FONT_IMPORT.sub("", text)
        if without_fonts != text:
            style_sheet.write_text(without_fonts, encoding="utf-8")
