"""The templates of the book's own pages."""

from jinja2 import Environment, PackageLoader

PAGES = Environment(loader=PackageLoader(__package__), autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
