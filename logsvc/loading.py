"""Where settings are read from, and how they are shown.

The command line goes before the environment (`LOGSVC_HTTP_PORT` for `http.port`), that before the file (TOML, named by
`--config` or `LOGSVC_CONFIG`), that before the default. `logsvc config` prints what is in force, as a file that can be
used again.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from textwrap import wrap
from tomllib import TOMLDecodeError
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsError, TomlConfigSettingsSource

from logsvc.config import ENV_PREFIX, FILE_VARIABLE, Settings, fields, variable
from logsvc.errors import ConfigError
from logsvc.toml import written


def load(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings in force: `flags` (`{"http.port": 80}`, None where not given) over environment over `file`.

    Raises ConfigError with a sentence for each setting that can't be used, naming where it came from.
    """
    if file is None and os.environ.get(FILE_VARIABLE):
        file = Path(os.environ[FILE_VARIABLE])
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    _check_variables()
    try:
        return _reader(file)(**_nested(given))
    except ValidationError as error:
        raise ConfigError("\n".join(_sentences(error, given, file))) from None
    except SettingsError as error:
        raise ConfigError(
            f"a list in a variable {ENV_PREFIX}… is JSON, as [7, 30]: {error.__cause__ or error}"
        ) from None
    except TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is not UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{file} can't be read: {error.strerror}") from None


def _reader(file: Path | None) -> type[Settings]:
    """Settings that read `file` too; pydantic-settings takes a file with the class, not with the call."""
    if file is None:
        return Settings
    file.open().close()  # pydantic-settings passes over a file that isn't there

    class FromFile(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del dotenv_settings, file_secret_settings
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

    return FromFile


def _nested(flags: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, dict[str, Any]] = {}
    for name, value in flags.items():
        group, _, field = name.partition(".")
        nested.setdefault(group, {})[field] = value
    return nested


def _check_variables() -> None:
    """A misspelt variable of ours is an error: what it was to change would stay as it was, silently."""
    known = {variable(name) for name, _ in fields()} | {FILE_VARIABLE}
    unknown = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and name not in known)
    if unknown:
        raise ConfigError(
            "\n".join(f"{name} in the environment is not a setting{_near(name, known)}" for name in unknown)
        )


def _near(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _sentences(error: ValidationError, flags: Mapping[str, Any], file: Path | None) -> Iterator[str]:
    known = dict(fields())
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"][:2])
        where = _came_from(name, flags, file)
        if problem["type"] == "extra_forbidden":
            yield f"{name} ({where}) is not a setting{_near(name, [*known, *Settings.model_fields])}"
            continue
        given = "" if name in known and _is_secret(known[name]) else f", not {repr(problem['input'])[:100]}"
        message = problem["msg"][:1].lower() + problem["msg"][1:]
        yield f"{name} ({where}): {message.removeprefix('value error, ')}{given}"


def _is_secret(field: FieldInfo) -> bool:
    return _holds_secret(field.annotation)


def _holds_secret(kind: object) -> bool:
    return kind is SecretStr or any(map(_holds_secret, get_args(kind)))


def _came_from(name: str, flags: Mapping[str, Any], file: Path | None) -> str:
    if name in flags:
        return "on the command line"
    if variable(name) in os.environ:
        return f"{variable(name)} in the environment"
    return f"in {file}"


def render(settings: BaseModel) -> str:
    """Settings as TOML, each with what it means as a comment. Secrets are shown as `**********`."""
    blocks = []
    for group_name in type(settings).model_fields:
        group = getattr(settings, group_name)
        lines = [f"# {type(group).__doc__}", f"[{group_name}]"]
        for name, field in type(group).model_fields.items():
            meaning = " ".join((field.description or "").split())
            lines += [*wrap(meaning, 110, initial_indent="# ", subsequent_indent="# ")]
            lines += [f"{name} = {written(getattr(group, name))}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"
