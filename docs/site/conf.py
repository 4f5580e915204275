"""Sphinx's settings; `build.py` runs it."""

import ast
import itertools
import re
import textwrap

from sphinx.domains.python import PyObject

import zoo

project = "keras-zoo"
author = "The keras-zoo authors"
project_copyright = author
release = version = zoo.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_heading_anchors = 3
default_role = "code"  # docstrings write `name`
language = "en"

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False  # those of Keras are not about our classes
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_display_short_literal_types = True
python_maximum_signature_line_length = 88
add_module_names = False
viewcode_line_numbers = False
viewcode_follow_imported_members = False  # pages list names where they are imported from

html_theme = "furo"
html_title = f"keras-zoo {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"


# Attributes are what a docstring calls them.
next(field for field in PyObject.doc_field_types if field.name == "variable").label = "Attributes"


def without_docstrings_of_types(app, what, name, obj, options, lines):
    """Empties the docstring of a constant, which is that of its type, such as `tuple`."""
    if what == "data" and getattr(obj, "__doc__", None) == type(obj).__doc__:
        lines.clear()


def with_code(app, what, name, obj, options, lines):
    """Sets paragraphs of a module's docstring that are Python as code."""
    if what == "module":
        paragraphs = "\n".join(lines).split("\n\n")
        text = ""
        for code, some in itertools.groupby(paragraphs, key=_is_python):
            part = "\n\n".join(some)
            part = f".. code-block:: python\n\n{textwrap.indent(part, '   ')}" if code else part
            text += f"{part}\n\n"
        lines[:] = text.splitlines()


def _is_python(paragraph):
    try:
        parsed = list(ast.walk(ast.parse(paragraph)))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Import | ast.ImportFrom | ast.Call) for node in parsed)


def with_plain_defaults(app, what, name, obj, options, signature, returns):
    """Replaces defaults that are no Python, such as `<factory>`: Sphinx cannot parse them."""
    return signature and re.sub(r"<[^<>]*>", "...", signature), returns


def setup(app):
    """Connects what changes docstrings on their way."""
    app.connect("autodoc-process-docstring", without_docstrings_of_types)
    app.connect("autodoc-process-docstring", with_code)
    app.connect("autodoc-process-signature", with_plain_defaults)
