-- What reads go through on a server: each view takes the tenant and app that it shows, so a statement that forgot to
-- name them is an error rather than everybody's lines.
--
-- They run with the rights of whoever made them (SQL SECURITY DEFINER), so the user of `logsvc serve` needs rights on
-- them alone: see serving.sql.

CREATE VIEW IF NOT EXISTS logs_of SQL SECURITY DEFINER AS
SELECT
    epoch, partition, offset, line, appended, retention, process, dyno, source, key, time, stream, partial, message
FROM lines
WHERE tenant = {tenant:String} AND app = {app:String};

-- The same without the repetitions of rows that were inserted twice.
CREATE VIEW IF NOT EXISTS logs_once_of SQL SECURITY DEFINER AS
SELECT epoch, partition, offset, line, process, dyno, source, time, stream, message
FROM lines FINAL
WHERE tenant = {tenant:String} AND app = {app:String};

CREATE VIEW IF NOT EXISTS apps_of SQL SECURITY DEFINER AS
SELECT app, process, last
FROM apps
WHERE tenant = {tenant:String};

-- A post is known by a name that holds tenant and app; nobody may list them.
CREATE VIEW IF NOT EXISTS origins_of SQL SECURITY DEFINER AS
SELECT file, appended, place, newest
FROM origins
WHERE node = {node:String} AND file IN {files:Array(String)};
