"""The bus: an ordered, durable log of chunks in partitions. `protocol` says what one is; the rest implement it."""
