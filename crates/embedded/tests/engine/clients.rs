//! A real client: the Rust `clickhouse` crate.

use crate::host::shared;

#[test]
fn the_rust_client_queries_and_inserts() {
    let Some(db) = shared() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for compression in [clickhouse::Compression::None, clickhouse::Compression::Lz4] {
            let client = clickhouse::Client::default()
                .with_url(format!("http://{}", db.address))
                .with_database(&db.name)
                .with_user("default")
                .with_compression(compression);
            client
                .query(
                    "CREATE OR REPLACE TABLE t (a UInt64, s String) ENGINE = MergeTree ORDER BY a",
                )
                .execute()
                .await
                .unwrap();
            let mut insert = client.insert_formatted_with("INSERT INTO t (a, s) FORMAT TSV");
            insert.send("1\ta\\n\\nb\n2\tc\n".into()).await.unwrap();
            insert.end().await.unwrap();
            // Parameters travel as a form.
            let rows: Vec<(u64, String)> = client
                .query("SELECT a, s FROM t WHERE a >= {from:UInt64} ORDER BY a")
                .param("from", 1_u64)
                .fetch_all()
                .await
                .unwrap();
            assert_eq!(rows, [(1, "a\n\nb".to_owned()), (2, "c".to_owned())]);
            let many: Vec<u64> =
                client.query("SELECT number FROM numbers(300000)").fetch_all().await.unwrap();
            assert_eq!(many.len(), 300_000);
            let amid = client
                .query("SELECT number, throwIf(number = 5000000) FROM numbers(9000000)")
                .fetch_all::<(u64, u8)>()
                .await
                .unwrap_err();
            assert!(amid.to_string().contains("Code: 395"), "{amid}");
            let refused = client.query("SELECT 1 FROM nosuch").fetch_one::<u8>().await.unwrap_err();
            assert!(refused.to_string().contains("Code: 60"), "{refused}");
        }
    });
}
