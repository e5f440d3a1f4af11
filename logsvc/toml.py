"""Values as TOML writes them."""

import orjson
from pydantic import ByteSize


def written(value: object) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case ByteSize():
            return f'"{_size(value)}"'
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(written, value))}]"
        case dict():
            return f"{{{', '.join(f'{written(str(key))} = {written(item)}' for key, item in value.items())}}}"
        case _:
            # A JSON string is a basic string of TOML, once DEL is escaped too.
            return orjson.dumps(str(value)).decode().replace("\x7f", "\\u007F")


def _size(size: int) -> str:
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return f"{int(size)}B"
