-- Rights of the user of `logsvc serve`: the views, and two tables that hold nothing of any tenant.
--
-- Run by an administrator after `logsvc migrate`, with the database of clickhouse.database, then
--     CREATE USER logsvc_serve IDENTIFIED BY '…' DEFAULT ROLE logsvc_serving;
--     GRANT logsvc_serving TO logsvc_serve;

CREATE ROLE IF NOT EXISTS logsvc_serving;

GRANT SELECT ON logsvc.logs_of TO logsvc_serving;
GRANT SELECT ON logsvc.logs_once_of TO logsvc_serving;
GRANT SELECT ON logsvc.apps_of TO logsvc_serving;
GRANT SELECT ON logsvc.origins_of TO logsvc_serving;
GRANT SELECT ON logsvc.watermarks TO logsvc_serving;
GRANT SELECT ON logsvc.schema_version TO logsvc_serving;
