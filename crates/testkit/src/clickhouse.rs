//! Plain reading from ClickHouse: SQL out, JSON lines in.

use anyhow::Context as _;
use clickhouse::{Client, Compression};
use serde::de::DeserializeOwned;
use tokio::io::AsyncBufReadExt as _;

/// A database of a ClickHouse server.
#[derive(Clone)]
pub struct ClickHouse {
    client: Client,
}

impl std::fmt::Debug for ClickHouse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClickHouse").finish_non_exhaustive()
    }
}

impl ClickHouse {
    /// The database at this URL, as the default user without a password.
    pub fn new(url: &str, database: &str) -> Self {
        let client = Client::default()
            .with_url(url)
            .with_database(database)
            .with_compression(Compression::None)
            .with_setting("output_format_json_quote_64bit_integers", "0")
            .with_setting("output_format_json_quote_denormals", "0");
        Self { client }
    }

    /// Runs a query and hands over each row as it arrives.
    ///
    /// # Errors
    ///
    /// When the server refuses, breaks off, or a row does not read as `T`.
    pub async fn each<T: DeserializeOwned>(
        &self,
        sql: &str,
        row: impl FnMut(T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.lines(sql, "JSONEachRow", row).await
    }

    /// Runs a query and collects its rows as arrays.
    ///
    /// # Errors
    ///
    /// As [`ClickHouse::each`].
    pub async fn compact<T: DeserializeOwned>(&self, sql: &str) -> anyhow::Result<Vec<T>> {
        let mut rows = Vec::new();
        let push = |row| {
            rows.push(row);
            Ok(())
        };
        self.lines(sql, "JSONCompactEachRow", push).await?;
        Ok(rows)
    }

    async fn lines<T: DeserializeOwned>(
        &self,
        sql: &str,
        format: &str,
        mut row: impl FnMut(T) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let failed = || format!("the query failed: {sql}");
        let mut lines =
            self.client.query_raw(sql).fetch_bytes(format).with_context(failed)?.lines();
        while let Some(line) = lines.next_line().await.with_context(failed)? {
            let value = serde_json::from_str(&line)
                .with_context(|| format!("unexpected answer: {line:.300}"))?;
            row(value)?;
        }
        Ok(())
    }

    /// Runs a query and collects its rows.
    ///
    /// # Errors
    ///
    /// As [`ClickHouse::each`].
    pub async fn all<T: DeserializeOwned>(&self, sql: &str) -> anyhow::Result<Vec<T>> {
        let mut rows = Vec::new();
        self.each(sql, |row| {
            rows.push(row);
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Runs a query that answers with one row.
    ///
    /// # Errors
    ///
    /// As [`ClickHouse::each`], and when there is no row.
    pub async fn one<T: DeserializeOwned>(&self, sql: &str) -> anyhow::Result<T> {
        self.all(sql).await?.pop().with_context(|| format!("no row: {sql}"))
    }
}

/// A string as an SQL literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name as an SQL identifier.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
