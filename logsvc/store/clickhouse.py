"""The store on ClickHouse: the protocol's reads and writes as statements on an engine."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from itertools import groupby
from typing import Any, Final

from logsvc.model import AppId, Chunk, Cursor, Filter, Origin
from logsvc.purges import Purge
from logsvc.store import schema, sql
from logsvc.store.engine import Engine, TooMuch
from logsvc.store.protocol import VOLUME_BY, AppSummary, Bucket, Page, ReadLimits

DAY: Final = 86_400
"""Seconds."""

_BEYOND: Final = 1 << 62
"""An offset behind all others."""


class ClickHouseStore:
    """A Store (see protocol.py) on any engine.

    `keep` is the retention in days by class; other classes are kept. `cluster` names the one whose servers replicate
    the tables, where there are several. `views`: read through those, as a user who has no rights on the tables.
    """

    def __init__(
        self, engine: Engine, keep: Mapping[int, int] | None = None, *, cluster: str = "", views: bool = False
    ) -> None:
        self._engine = engine
        self._keep = dict(keep or {})
        self._cluster, self._views = cluster, views
        self._limits = ReadLimits()

    def limited(self, limits: ReadLimits) -> "ClickHouseStore":
        """See StoreReader. The engine is shared; whoever opened it closes it."""
        other = copy(self)
        other._limits = limits  # noqa: SLF001 - one of our own
        return other

    # reading

    async def after(self, app: AppId, after: Cursor, below: int, wanted: Filter, lines: int) -> Page:
        """See StoreReader. A page of very long lines holds fewer of them, then it isn't done."""
        columns, done = await self._rows(lines, lambda rows: sql.after_query(app, after, below, wanted, rows))
        return Page(sql.decode_rows(after.epoch, after.partition, columns), done)

    async def before(self, app: AppId, before: Cursor, wanted: Filter, lines: int, floor: int | None = None) -> Page:
        """See StoreReader. A page of very long lines holds fewer of them, then it isn't done."""
        page = await self._before(app, before, wanted, lines, floor or 0)
        for epoch in await self._epochs(before.epoch) if page.done and floor is None else ():
            first = await self.first(app, epoch)
            if first is None:
                continue
            left = lines - sum(len(chunk.numbers) for chunk in page.chunks)
            if left == 0:
                return page._replace(done=False)
            older = await self._before(app, first._replace(offset=_BEYOND), wanted, left)
            page = Page(older.chunks + page.chunks, older.done)
            if not page.done:
                break
        return page

    async def _before(self, app: AppId, before: Cursor, wanted: Filter, lines: int, floor: int = 0) -> Page:
        columns, done = await self._rows(lines, lambda rows: sql.before_query(app, before, wanted, rows, floor))
        oldest_first = [column[::-1] for column in columns]
        return Page(sql.decode_rows(before.epoch, before.partition, oldest_first), done)

    async def _rows(self, lines: int, query: Callable[[int], sql.Query]) -> tuple[Sequence[Sequence[Any]], bool]:
        """The first `lines` rows of a query for n rows, fewer where they are long, and whether that is all there is."""
        ask = lines + 1
        while True:
            try:
                columns = await self._query(query(ask))
            except TooMuch:
                if ask == 1:
                    raise
                ask = lines = max(1, ask // 8)
                continue
            found = len(columns[0]) if columns else 0
            columns = sql.once(columns)
            rows = len(columns[0]) if columns else 0
            if rows >= lines or found < ask:
                return [column[:lines] for column in columns], found < ask and rows <= lines
            ask *= 2  # some came twice

    async def _epochs(self, before: int) -> Sequence[int]:
        """Older epochs, newest first."""
        columns = await self._query(sql.epochs_query(before))
        return columns[0] if columns else ()

    async def first(self, app: AppId, epoch: int) -> Cursor | None:
        columns = await self._query(sql.first_query(app, epoch))
        return Cursor(epoch, columns[0][0], columns[1][0], columns[2][0]) if columns else None

    async def count(self, app: AppId, after: Cursor, below: int, wanted: Filter) -> int:
        ((lines,),) = await self._query(sql.count_query(app, after, below, wanted))
        return int(lines)

    async def volume(
        self, app: AppId, below: Cursor, wanted: Filter, step: int, by: Sequence[str] = VOLUME_BY
    ) -> list[Bucket]:
        columns = await self._query(sql.volume_query(app, below, wanted, step, by))
        return [
            Bucket(start, tuple(name.decode() for name in names), lines)
            for start, *names, lines in zip(*columns, strict=True)
        ]

    async def apps(self, tenant: str) -> list[AppSummary]:
        rows = zip(*await self._query(sql.apps_query(tenant)), strict=True)
        summaries = []
        for app, group in groupby(rows, key=lambda row: row[0]):
            processes = list(group)
            names = [process.decode() for _, process, _ in processes]
            summaries.append(AppSummary(app.decode(), names, max(last for _, _, last in processes)))
        return summaries

    async def exists(self, app: AppId) -> bool:
        return bool(await self._query(sql.exists_query(app)))

    async def origins(self, node: str, files: Sequence[str] = ()) -> Mapping[str, Origin]:
        rows = zip(*await self._query(sql.origins_query(node, files)), strict=True)
        return {file.decode(): Origin.parse(origin) for file, origin in rows}

    async def watermarks(self, epoch: int) -> Mapping[int, int]:
        return dict(zip(*await self._query(sql.watermarks_query(epoch)), strict=True))

    # writing

    async def insert(self, chunks: Sequence[Chunk]) -> None:
        if chunks:
            rows = await asyncio.to_thread(sql.encode_chunks, chunks)  # 20 ms for a large batch
            await self._engine.insert("chunks", sql.CHUNK_COLUMNS, rows)

    async def record(self, epoch: int, watermarks: Mapping[int, int]) -> None:
        if watermarks:
            rows = sql.encode_watermarks(epoch, watermarks.items())
            await self._engine.insert("watermarks", ("epoch", "partition", "offset"), rows)

    async def purge(self, purge: Purge) -> bool:
        """See StoreWriter. Other lines of the same parts are written again, which takes a while where they are many."""
        found = bool(await self._query(sql.purged_query(purge)))
        if found:
            await self._engine.command(sql.purge_lines(purge))
        if await self._query(sql.purged_apps_query(purge)):
            await self._engine.command(sql.purge_apps(purge))
        return found

    # life

    async def migrate(self) -> None:
        """See Store. Raises WrongSchema where a newer logsvc has migrated it."""
        await schema.migrate(self._engine, schema.migrations(), self._cluster)

    async def retain(self, now: int) -> None:
        """Drop days whose retention has passed, and forget apps of which nothing can be left."""
        names, days = await self._query(sql.days_query()) or ([], [])
        for name, day in zip(names, days, strict=True):
            keep = self._keep.get(int(name[9:]))
            if keep is not None and day + (keep + 1) * DAY <= now:
                await self._engine.command(sql.drop_day(name))
        if self._keep:
            oldest = now - (max(self._keep.values()) + 1) * DAY
            await self._engine.command(sql.forget_apps(oldest))

    async def close(self) -> None:
        await self._engine.close()

    async def _query(self, query: sql.Query) -> Sequence[Sequence[Any]]:
        query = sql.through_views(query) if self._views else query
        query = sql.limited(query, self._limits)
        if self._limits.turn is None:
            return await self._engine.query(query.sql, query.parameters)
        async with self._limits.turn() as count:
            return await self._engine.query(query.sql, query.parameters, count)
