"""Many ES modules as one, which a browser gets in a single request: pure text to text, without a build step.

It takes what our modules are made of, each statement at the begin of a line, and refuses the rest:

    import "./x.js";    import { a, b } from "./x.js";    import sheet from "./x.css" with { type: "css" };
    export class …, function …, const …

Each module becomes a function that is called once, so that names of one are not those of another. There are no cycles,
as what a module imports must be whole before it runs.
"""

import json
import re
from collections.abc import Mapping
from typing import Final

_COMMENTS: Final = re.compile(r"^[ \t]*(?:/\*\*(?:(?!\*/).)*\*/|//[^\n]*)\n", re.MULTILINE | re.DOTALL)
"""Lines that are comment as a whole: a third of the modules is types, which only the checker reads."""
_BLANK: Final = re.compile(r"^[ \t]*\n", re.MULTILINE)
_IMPORT: Final = re.compile(
    r'^import (?:(?:\{(\s*(?:\w+,\s*)*\w*\s*)\}|(\w+)) from )?"\./([\w.-]+)"(?: with \{ type: "css" \})?;\n',
    re.MULTILINE,
)
_EXPORT: Final = re.compile(r"^export ((?:class|const|(?:async )?function\*?) (\w+))", re.MULTILINE)
_UNKNOWN: Final = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


def bundle(files: Mapping[str, str], entry: str) -> str:
    """The module `entry` and all that it imports, as one module that exports the same.

    `files` are modules and style sheets by name. Raises ValueError for what it doesn't understand, KeyError for a file
    that isn't there.
    """
    made: dict[str, tuple[str, list[str]]] = {}
    _add(files, entry, made, ())
    exports = made[entry][1]
    offered = [f"export const {{ {', '.join(exports)} }} = {_holder(entry)};\n"] if exports else []
    return "".join([*(text for text, _ in made.values()), *offered])


def _add(files: Mapping[str, str], name: str, made: dict[str, tuple[str, list[str]]], above: tuple[str, ...]) -> None:
    """Put a file behind those that it imports."""
    if name in above:
        raise ValueError(f"a cycle of imports: {' → '.join([*above, name])}")
    if name in made:
        return
    if name.endswith(".css"):
        made[name] = (_sheet(name, files[name]), [])
        return
    text = _COMMENTS.sub("", files[name])
    for imported in _IMPORT.finditer(text):
        _add(files, imported[3], made, (*above, name))
    exports = [found[2] for found in _EXPORT.finditer(text)]
    body = _EXPORT.sub(r"\1", _IMPORT.sub(_taken, text))
    if unknown := _UNKNOWN.search(body):
        raise ValueError(f"{name}: {unknown[0]}")
    held = f"const {_holder(name)} = (() => {{\n{_BLANK.sub('', body)}return {{ {', '.join(exports)} }};\n}})();\n"
    made[name] = (held, exports)


def _taken(imported: re.Match[str]) -> str:
    """What stands in the place of an import."""
    names, default, name = imported.groups()
    if names is not None:
        return f"const {{{names}}} = {_holder(name)};\n"
    return f"const {default} = {_holder(name)};\n" if default is not None else ""


def _sheet(name: str, text: str) -> str:
    holder = _holder(name)
    return f"const {holder} = new CSSStyleSheet();\n{holder}.replaceSync({json.dumps(text, ensure_ascii=False)});\n"


def _holder(name: str) -> str:
    """The variable that has what a file exports."""
    return "$" + re.sub(r"\W", "_", name)
