"""Colours of a log on a terminal, as `heroku logs` gives them (heroku/cli, src/lib/run/colorize.ts).

The head of a line has the colour of its process: Heroku's own processes have theirs, every other takes the next of
ten when it is first seen. In bodies, router lines (and whatever is written like them, `at=info method=GET …`) are
coloured by key and by status, the platform's lines about dynos by what happened, and access logs of `web` like router
lines. Nothing but SGR is added: without it the message is what it was, spaces included.
"""

import re
from typing import Final

from logsvc.formats.terminal import RESET, left_on

Style = tuple[str, str]
"""What switches a style on and off."""

_OFF = "\x1b[39m"
RED: Final[Style] = ("\x1b[31m", _OFF)
GREEN: Final[Style] = ("\x1b[32m", _OFF)
YELLOW: Final[Style] = ("\x1b[33m", _OFF)
BLUE: Final[Style] = ("\x1b[34m", _OFF)
MAGENTA: Final[Style] = ("\x1b[35m", _OFF)
CYAN: Final[Style] = ("\x1b[36m", _OFF)
BRIGHT_GREEN: Final[Style] = ("\x1b[92m", _OFF)
BRIGHT_YELLOW: Final[Style] = ("\x1b[93m", _OFF)
DIM: Final[Style] = ("\x1b[2m", "\x1b[22m")


def _bold(style: Style) -> Style:
    return f"\x1b[1m{style[0]}", f"{style[1]}\x1b[22m"


STYLES: Final[tuple[Style, ...]] = (
    YELLOW,
    GREEN,
    CYAN,
    MAGENTA,
    BLUE,
    *map(_bold, (GREEN, CYAN, MAGENTA, YELLOW, BLUE)),
)
_FIRST = ("run", "router", "web", "postgres", "heroku-postgres")


def paint(text: str, style: Style) -> str:
    return f"{style[0]}{text}{style[1]}" if text else text


class Palette:
    """Which process has which colour: the same for as long as the program runs."""

    def __init__(self) -> None:
        self._styles = dict(zip(_FIRST, STYLES, strict=False))

    def style(self, identifier: str) -> Style:
        """`identifier` is a process or a dyno; what follows its first dot does not count."""
        name = identifier.partition(".")[0]
        found = self._styles.get(name)
        if found is None:
            found = self._styles[name] = STYLES[len(self._styles) % len(STYLES)]
        return found

    def body(self, source: str, process: str, message: str) -> str:
        """The message in its colours; one that brings its own keeps them, and they end with the line."""
        if "\x1b" in message:
            return message + RESET if left_on(message) else message
        if process == "router" or message.startswith("at="):
            return self._router(message)
        if source != "app":
            return _platform(message)
        return _access(message) if process == "web" else message

    def _router(self, message: str) -> str:
        return _WORD.sub(lambda match: self._pair(match[0]), message)

    def _pair(self, word: str) -> str:
        key, equals, value = word.partition("=")
        if not equals:
            return paint(word, DIM)
        return paint(f"{key}=", DIM) + paint(value, self._value_style(key, value))

    def _value_style(self, key: str, value: str) -> Style:
        match key:
            case "at" if value == "error":
                return RED
            case "code":
                return _bold(RED)
            case "method":
                return MAGENTA
            case "dyno":
                return self.style(value)
            case "status":
                return _status(value)
            case "path":
                return GREEN
            case "connect" | "service":
                return _duration(value)
            case _:
                return DIM


_WORD = re.compile(r"\S+")
_NONE: Final[Style] = ("", "")
_MS = re.compile(r"(\d{1,9})(?:\.\d+)?(?:ms)?", re.ASCII)
_CLASSES = {"2": GREEN, "3": CYAN, "4": YELLOW, "5": RED}


def _status(code: str) -> Style:
    return _CLASSES.get(code[0], _NONE) if len(code) == 3 and code.isdigit() else _NONE


def _duration(value: str) -> Style:
    match = _MS.fullmatch(value)
    if match is None:
        return _NONE
    ms = int(match[1])
    for below, style in ((100, BRIGHT_GREEN), (500, GREEN), (5000, YELLOW), (10000, BRIGHT_YELLOW)):
        if ms < below:
            return style
    return RED


_STATES = {"down": RED, "crashed": RED, "up": BRIGHT_GREEN, "starting": BRIGHT_YELLOW, "complete": BRIGHT_GREEN}
_STATE = re.compile(r"(State changed from )(\w+)( to )(\w+)")
_EXIT = re.compile(r"(Process exited with status )(\d+)")
_START = re.compile(r"(Starting process with command )(`.+`)(.*)")
_ACCESS = re.compile(r'(\S+ - ?[^\[\]"]*\[[^\]]+\] ")(\w+)( )(\S+)( HTTP/[\d.]+" )(\d{3})( .*)?')


def _platform(message: str) -> str:
    """What the platform says of a dyno."""
    if match := _STATE.fullmatch(message):
        before, old, to, new = match.groups()
        return before + paint(old, _STATES.get(old, _NONE)) + to + paint(new, _STATES.get(new, _NONE))
    if match := _EXIT.fullmatch(message):
        return match[1] + paint(match[2], BRIGHT_GREEN if match[2] == "0" else RED)
    if match := _START.fullmatch(message):
        return match[1] + paint(match[2], _bold(CYAN)) + match[3]
    if message.startswith("Stopping "):
        return paint(message, RED)
    return message


def _access(message: str) -> str:
    """A line of a web server's access log in the common log format."""
    match = _ACCESS.fullmatch(message)
    if match is None:
        return message
    before, method, space, path, protocol, status, rest = match.groups("")
    return (
        paint(before, DIM)
        + paint(method, MAGENTA)
        + space
        + paint(path, GREEN)
        + paint(protocol, DIM)
        + paint(status, _status(status))
        + paint(rest, DIM)
    )
