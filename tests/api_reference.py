"""The API reference from docstrings: `python -m tests.api_reference LINKS OUTPUT`, which fails if pdoc warns.

pdoc imports the package from the tree of links in LINKS (`package_tree.py`). A package that lists its public names in
`__all__` shows these; the others show their modules.
"""

from __future__ import annotations

import re
import sys
import warnings
from contextlib import chdir
from pathlib import Path

from tests.package_tree import link_package

_INHERITED = re.compile(r"Error parsing type annotation .* for (?!helix4d\.)[a-z]\w*\.[\w.]+[.:]")
"""A warning about an attribute that a class inherits from another library."""


def write_reference(links: Path, output: Path) -> list[str]:
    """Write HTML pages to `output`. Returns pdoc's warnings, such as modules that fail to import."""
    links, output = link_package(links).resolve(), output.resolve()
    sys.path.insert(0, str(links))
    import pdoc

    pdoc.render.configure(docformat="google", footer_text="Helix4D toolkit")
    # In the tree: elsewhere the checkout's folder `helix4d/` might be meant.
    with chdir(links), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pdoc.pdoc("helix4d", output_directory=output)
    own_files = Path(pdoc.__file__).parent
    messages = [str(warning.message) for warning in caught if Path(warning.filename).is_relative_to(own_files)]
    return [message for message in messages if not _INHERITED.match(message)]


if __name__ == "__main__":
    problems = write_reference(Path(sys.argv[1]), Path(sys.argv[2]))
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)
