"""What Sphinx is told: which parser and theme, and that no page loads anything from elsewhere."""

from __future__ import annotations

from typing import Any

from runbook_lib import __version__

TITLE = "The WSO2 cluster runbook"
THEME = {
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "max_navbar_depth": 3,
    "use_download_button": False,  # it offers the source as well, which is not part of the book
    "search_bar_text": "Search the book",
    "toc_title": "On this page",
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


def settings(title: str) -> dict[str, Any]:
    """Return the configuration of a book, as `conf.py` would have it."""
    return {
        "project": title,
        "author": "",
        "copyright": "",
        "release": __version__,
        "language": "en",
        "extensions": ["myst_nb"],
        "nb_execution_mode": "off",  # the chapters are shown as a run executed them
        "nb_merge_streams": True,
        "myst_enable_extensions": [],
        "myst_heading_anchors": 6,
        "myst_update_mathjax": False,
        "highlight_language": "none",
        "smartquotes": False,  # they make dashes of the two hyphens of an option
        "html_theme": "sphinx_book_theme",
        "html_theme_options": THEME,
        "html_title": title,
        "html_static_path": ["_static"],
        "html_css_files": ["style.css", "book.css"],
        "html_extra_path": ["_extra"],
        "html_copy_source": False,
        "html_show_sourcelink": False,
        "html_show_sphinx": False,
        "html_show_copyright": False,
        "html_use_index": False,
        "exclude_patterns": ["_extra", "_static"],
        "show_warning_types": True,
    }
