//! The ClickHouse engine in a process of its own, behind the ClickHouse HTTP protocol.
