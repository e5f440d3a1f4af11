-- Lines of all apps, and what follows from the chunks they came in.
--
-- A chunk is inserted whole into `chunks`, which keeps nothing; the views below take it apart. Each column of each row
-- follows from the bus's record alone, never from the writer or its clock, so a chunk inserted again (with other
-- boundaries, by another writer, a day later) makes equal rows with equal keys, which collapse.
--
-- Statements end with a semicolon at the end of a line. Each may be run again, and by several at once.

CREATE TABLE IF NOT EXISTS chunks (
    tenant String,
    app String,
    process String,
    dyno String,
    source String,
    key String COMMENT 'the whole stream, as the record''s key has it: canonical JSON',
    retention UInt8,
    epoch UInt32,
    partition UInt16,
    offset UInt64,
    appended Int64 COMMENT 'Unix ms, when the bus took it',
    origin String COMMENT 'header o: JSON [node, file, start, end, check, held], or empty',
    value String COMMENT 'CRI lines, each ended by a newline'
) ENGINE = Null;

CREATE TABLE IF NOT EXISTS lines (
    tenant LowCardinality(String),
    app LowCardinality(String),
    epoch UInt32 CODEC(Delta, ZSTD(1)),
    partition UInt16 CODEC(Delta, ZSTD(1)),
    offset UInt64 CODEC(Delta, ZSTD(1)),
    line UInt32 CODEC(Delta, ZSTD(1)) COMMENT 'index in the chunk',
    appended Int64 CODEC(Delta, ZSTD(1)) COMMENT 'Unix ms, when the bus took the chunk',
    retention UInt8,
    process LowCardinality(String),
    dyno LowCardinality(String),
    source LowCardinality(String),
    key LowCardinality(String) COMMENT 'the stream',
    time Int64 CODEC(Delta, T64, ZSTD(1)) COMMENT 'Unix ns, the line''s own',
    stream Enum8('stdout' = 1, 'stderr' = 2),
    partial Bool COMMENT 'tag P: goes on in the next line of the stream',
    message String CODEC(ZSTD(1)) COMMENT 'any bytes but a newline',
    INDEX times time TYPE minmax GRANULARITY 1
) ENGINE = ReplacingMergeTree
ORDER BY (tenant, app, epoch, partition, offset, line)
PARTITION BY (toDate(fromUnixTimestamp64Milli(appended, 'UTC')), retention)
SETTINGS
    index_granularity = 4096,
    -- All columns of a part in one file: a page needs a few rows of most columns, and of each part.
    min_bytes_for_wide_part = 1000000000000,
    min_rows_for_wide_part = 1000000000000,
    -- Merge sooner than by default (5): a tenth more work on the way in, a third of the parts to read.
    merge_selector_base = 3,
    -- A day that is over becomes one part: reads open few files.
    min_age_to_force_merge_seconds = 7200,
    min_age_to_force_merge_on_partition_only = 1,
    -- Stop with an error rather than set damaged parts aside and go on without their lines.
    max_suspicious_broken_parts = 0,
    max_suspicious_broken_parts_bytes = 0,
    -- Merges need room: stop inserting, which loses nothing, before the disk is full to the last byte.
    min_free_disk_bytes_to_perform_insert = 67108864;

-- One line is `<RFC 3339 time> <stdout|stderr> <F|P> <message>`. Whatever is not becomes a message as a whole. A time
-- that no calendar has, or that is not between 1900 and 2262, becomes the time when the bus took the chunk. So a line
-- that can't be read is seen, and does not stop the others.
CREATE MATERIALIZED VIEW IF NOT EXISTS lines_of_chunks TO lines AS
WITH
    position(raw, ' ') AS space,
    substring(raw, space + 1, 9) AS tags,
    tags IN ('stdout F ', 'stdout P ', 'stderr F ', 'stderr P ') AS readable,
    toUnixTimestamp64Nano(parseDateTime64BestEffortOrZero(substring(raw, 1, space - 1), 9, 'UTC')) AS stamp
SELECT
    tenant, app, epoch, partition, offset, toUInt32(number - 1) AS line, appended, retention,
    process, dyno, source, key,
    if(readable AND stamp != 0 AND stamp >= -2208988800000000000, stamp, appended * 1000000) AS time,
    if(readable AND startsWith(tags, 'stderr'), 'stderr', 'stdout') AS stream,
    readable AND endsWith(tags, ' P ') AS partial,
    if(readable, substring(raw, space + 10), raw) AS message
FROM (
    SELECT
        * EXCEPT (value, origin),
        splitByChar('\n', if(endsWith(value, '\n'), substring(value, 1, length(value) - 1), value)) AS raws
    FROM chunks
    WHERE value != ''
)
ARRAY JOIN raws AS raw, arrayEnumerate(raws) AS number;

CREATE TABLE IF NOT EXISTS apps (
    tenant String,
    app String,
    process String,
    last SimpleAggregateFunction(max, Int64) COMMENT 'Unix ms, when the bus took its newest chunk'
) ENGINE = AggregatingMergeTree
ORDER BY (tenant, app, process);

CREATE MATERIALIZED VIEW IF NOT EXISTS apps_of_chunks TO apps AS
SELECT tenant, app, process, max(appended) AS last
FROM chunks
GROUP BY tenant, app, process;

-- Where each file of each node was read up to, for the day a checkpoint is lost.
CREATE TABLE IF NOT EXISTS origins (
    node String,
    file String,
    appended SimpleAggregateFunction(max, Int64) COMMENT 'Unix ms',
    place SimpleAggregateFunction(max, Tuple(UInt32, UInt64)) COMMENT 'largest (epoch, offset)',
    newest AggregateFunction(argMax, String, Tuple(UInt32, UInt16, UInt64)) COMMENT 'origin at the largest (epoch, partition, offset)'
) ENGINE = AggregatingMergeTree
ORDER BY (node, file)
TTL toDateTime(fromUnixTimestamp64Milli(appended, 'UTC')) + INTERVAL 30 DAY;

CREATE MATERIALIZED VIEW IF NOT EXISTS origins_of_chunks TO origins AS
SELECT
    JSONExtractString(origin, 1) AS node,
    JSONExtractString(origin, 2) AS file,
    max(chunks.appended) AS appended,
    max((epoch, offset)) AS place,
    argMaxState(origin, (epoch, partition, offset)) AS newest
FROM chunks
WHERE origin != ''
GROUP BY node, file;

-- What the bus's consumer group has committed, recorded after each commit, for readers while the bus is away.
CREATE TABLE IF NOT EXISTS watermarks (
    epoch UInt32,
    partition UInt16,
    offset SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree
ORDER BY (epoch, partition);
