//! ClickHouse as a target: client, tables, read-back.
