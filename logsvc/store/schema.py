"""The schema: numbered SQL files, brought to a store in their order, and told from an older or a newer one.

Version n is `migrations/000n_*.sql`; table `schema_version` has a row for each that was run. Every statement may be
run twice and at once, so several processes may migrate together. On a cluster the same files are run with their
tables replicated.
"""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from logsvc.store.engine import Engine, Unwell

VERSION_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_version (
    version UInt32
) ENGINE = ReplacingMergeTree
ORDER BY version"""

Migration = tuple[int, str]
"""Version and SQL text."""

_FILE = re.compile(r"(\d{4})_\w+\.sql", re.ASCII)
_CREATE = re.compile(r"^(CREATE (?:TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS \w+)", re.MULTILINE)
_ALTER = re.compile(r"^(ALTER TABLE \w+)", re.MULTILINE)
_ENGINE = re.compile(r"^(\) ENGINE = )(\w*MergeTree)\b", re.MULTILINE)


class WrongSchema(Unwell):
    """The store's schema is older or newer than this logsvc's: nothing is read or written until it fits."""


def migrations() -> list[Migration]:
    """Those that this logsvc has, oldest first."""
    folder = files("logsvc.store") / "migrations"
    found = [(match, entry) for entry in folder.iterdir() if (match := _FILE.fullmatch(entry.name))]
    return sorted((int(match[1]), entry.read_text()) for match, entry in found)


def statements(text: str) -> list[str]:
    """The statements of a migration: each ends with a semicolon at the end of a line."""
    return [statement for part in re.split(r";\s*\n", text) if (statement := part.strip())]


def replicated(text: str, cluster: str) -> str:
    """The same SQL for a cluster: every server runs it, and tables hold the same on all.

    The engines get no arguments, so a server's `default_replica_path` and `default_replica_name` decide, which are
    unique to each table as long as nobody changed them.
    """
    name = "'" + cluster.replace("\\", "\\\\").replace("'", "\\'") + "'"
    text = _CREATE.sub(lambda found: f"{found[1]} ON CLUSTER {name}", text)
    text = _ALTER.sub(lambda found: f"{found[1]} ON CLUSTER {name}", text)
    return _ENGINE.sub(r"\1Replicated\2", text)


def on(cluster: str, text: str) -> str:
    """The SQL as it is, or for `cluster` where that is not empty."""
    return replicated(text, cluster) if cluster else text


async def migrate(engine: Engine, wanted: Sequence[Migration], cluster: str = "") -> None:
    """Run those of `wanted` that are newer than the store. Raises WrongSchema where the store is newer than they."""
    await engine.command(on(cluster, VERSION_TABLE))
    done = await version(engine)
    _refuse_newer(done, wanted)
    for number, text in wanted:
        if number > done:
            for statement in statements(on(cluster, text)):
                await engine.command(statement)
            await engine.insert("schema_version", ("version",), number.to_bytes(4, "little"))


async def require(engine: Engine, wanted: Sequence[Migration]) -> None:
    """Raises WrongSchema where the store's schema is not the newest of `wanted`."""
    done, newest = await version(engine), wanted[-1][0]
    _refuse_newer(done, wanted)
    if done < newest:
        found = f"is version {done}" if done else "is not there yet"
        raise WrongSchema(f"the store's schema {found}, and this logsvc needs version {newest}: run `logsvc migrate`")


async def version(engine: Engine) -> int:
    """The store's version; 0 where nothing was migrated yet."""
    exists = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = 'schema_version'"
    if not (await engine.query(exists, {}))[0][0]:
        return 0
    return int((await engine.query("SELECT max(version) FROM schema_version", {}))[0][0])


def _refuse_newer(done: int, wanted: Sequence[Migration]) -> None:
    if done > wanted[-1][0]:
        raise WrongSchema(
            f"the store's schema is version {done}, and this logsvc knows it up to version {wanted[-1][0]}: "
            "start the newer logsvc that migrated it"
        )
