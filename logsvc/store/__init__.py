"""The store: everything below the watermark, as rows in ClickHouse."""
