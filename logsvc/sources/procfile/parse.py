"""Read a Procfile and its `.env`. No I/O but the two `read_` functions.

The format is foreman's: one `name: command` a line; blank lines and lines that begin with `#` say nothing.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import parse_stream

from logsvc.errors import ConfigError

_ENTRY = re.compile(r"([A-Za-z0-9_-]+):\s*(.+)", re.ASCII)
_LONGEST_NAME = 63


class Entry(NamedTuple):
    """A process type and the command that starts it, as `/bin/sh -c` takes it."""

    name: str
    command: str


def parse_procfile(text: str, file: str = "Procfile") -> list[Entry]:
    """The entries in the order of the file.

    Raises ConfigError, `<file>:<line>: <reason>`, for a line that is no entry, a name that comes twice, and a file
    without an entry.
    """
    entries: dict[str, Entry] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _ENTRY.fullmatch(line)
        if match is None:
            raise ConfigError(f"{file}:{number}: {_reason(line)}")
        name, command = match.groups()
        if "\0" in command:
            raise ConfigError(f"{file}:{number}: a command can't hold a NUL byte")
        if len(name) > _LONGEST_NAME:
            raise ConfigError(f"{file}:{number}: a name has at most {_LONGEST_NAME} characters")
        if name in entries:
            raise ConfigError(f"{file}:{number}: '{name}' stands in line {lines[name]} already")
        entries[name], lines[name] = Entry(name, command), number
    if not entries:
        raise ConfigError(f"{file}: names no process; a line looks like 'web: python web.py'")
    return list(entries.values())


def _reason(line: str) -> str:
    name, colon, command = line.partition(":")
    if not colon:
        return "no colon; a line looks like 'web: python web.py'"
    if not name.strip():
        return "no name in front of the colon"
    if re.fullmatch(r"[A-Za-z0-9_-]+", name, re.ASCII) is None:
        return "a name has letters, digits, '-' and '_' only"
    if not command.strip():
        return f"'{name}' has no command"
    return "not a 'name: command' line"


def read_procfile(path: Path) -> list[Entry]:
    """`parse_procfile` of a file. Raises ConfigError, also where it can't be read."""
    return parse_procfile(_read(path), str(path))


def parse_env(text: str, file: str = ".env") -> dict[str, str]:
    """The variables of a `.env` file, in python-dotenv's syntax, without interpolation.

    Raises ConfigError, `<file>:<line>: <reason>`. No message holds a value: they are secrets.
    """
    variables: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        number = binding.original.line
        if binding.error:
            raise ConfigError(f"{file}:{number}: not a NAME=value line")
        if binding.key is None:
            continue
        if not binding.key or binding.value is None:
            raise ConfigError(f"{file}:{number}: a variable needs a name and a value: NAME=value")
        if "\0" in binding.key + binding.value or "=" in binding.key:
            raise ConfigError(f"{file}:{number}: a variable can't hold a NUL byte, nor its name '='")
        variables[binding.key] = binding.value
    return variables


def read_env(path: Path) -> Mapping[str, str]:
    """`parse_env` of a file; no file, no variables. Raises ConfigError."""
    return parse_env(_read(path), str(path)) if path.exists() else {}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8") from error
