//! On the shared broker, with topics of their own.

use super::*;
use crate::servers::Kafka;

async fn cluster() -> Option<Cluster> {
    let kafka = Kafka::shared().await.unwrap()?;
    Some(Cluster::at(&kafka.bootstrap()))
}

fn offsets(records: &[Record]) -> Vec<(u32, u64)> {
    records.iter().map(|record| (record.partition, record.offset)).collect()
}

#[tokio::test]
async fn committed_records_are_read_and_no_others() {
    let Some(cluster) = cluster().await else { return };
    let topic = "committed_records";
    cluster.create_topic(topic, 2, &[("cleanup.policy", "compact")]).await.unwrap();
    assert_eq!(cluster.topic_setting(topic, "cleanup.policy").await.unwrap(), "compact");

    let into = |partition, value: &str| Message {
        partition: Some(partition),
        ..Message::new("key", value)
    };
    let committed = Message {
        value: None,
        headers: vec![("a".into(), Some(b"1".to_vec())), ("b".into(), None)],
        ..into(1, "")
    };
    let open = cluster.open("committed", topic, &[into(0, "one"), committed]).await.unwrap();
    open.commit().await.unwrap();
    let open = cluster.open("aborted", topic, &[into(0, "two")]).await.unwrap();
    open.abort().await.unwrap();
    cluster.produce(topic, &[into(0, "three")]).await.unwrap();
    let open = cluster.open("open", topic, &[into(0, "four")]).await.unwrap();
    cluster.produce(topic, &[into(0, "behind the open one")]).await.unwrap();

    // The markers of the first two transactions take an offset each.
    let records = cluster.read_committed(topic).await.unwrap();
    assert_eq!(offsets(&records), [(0, 0), (0, 4), (1, 0)]);
    assert_eq!(records[1].value.as_deref(), Some(&b"three"[..]));
    assert_eq!(records[2].key.as_deref(), Some(&b"key"[..]));
    assert_eq!(records[2].value, None);
    assert_eq!(records[2].headers, [("a".into(), Some(b"1".to_vec())), ("b".into(), None)]);
    assert_eq!((records[2].header("a"), records[2].header("b")), (Some(&b"1"[..]), None));
    let ends = cluster.ends(topic).await.unwrap();
    assert_eq!(ends[0], Ends { first: 0, stable: 5, end: 7 });
    assert_eq!(ends[1], Ends { first: 0, stable: 2, end: 2 });

    assert_eq!(open.written, [(0, 5)]);
    open.commit().await.unwrap();
    let records = cluster.read_committed(topic).await.unwrap();
    assert_eq!(offsets(&records), [(0, 0), (0, 4), (0, 5), (0, 6), (1, 0)]);
}

#[tokio::test]
async fn a_group_keeps_its_offsets_and_their_text() {
    let Some(cluster) = cluster().await else { return };
    let topic = "offsets_of_a_group";
    cluster.create_topic(topic, 2, &[]).await.unwrap();
    let group = "a group of its own";
    assert_eq!(cluster.committed(group, topic).await.unwrap(), []);
    let committed = [Committed { partition: 1, offset: 7, metadata: "tw1;é".into() }];
    cluster.commit(group, topic, &committed).await.unwrap();
    assert_eq!(cluster.committed(group, topic).await.unwrap(), committed);
    cluster.delete_group(group).await.unwrap();
    assert_eq!(cluster.committed(group, topic).await.unwrap(), []);
}

#[tokio::test]
async fn a_topic_grows_loses_its_beginning_and_goes() {
    let Some(cluster) = cluster().await else { return };
    let topic = "grows_and_goes";
    cluster.create_topic(topic, 1, &[]).await.unwrap();
    assert!(cluster.create_topic(topic, 1, &[]).await.is_err());
    cluster.add_partitions(topic, 2).await.unwrap();
    let message = |value: &str| Message { partition: Some(1), ..Message::new("key", value) };
    let written = cluster.produce(topic, &["a", "b", "c"].map(message)).await.unwrap();
    assert_eq!(written, [(1, 0), (1, 1), (1, 2)]);
    cluster.delete_records(topic, 1, 2).await.unwrap();
    assert_eq!(offsets(&cluster.read_committed(topic).await.unwrap()), [(1, 2)]);
    assert_eq!(cluster.ends(topic).await.unwrap()[1], Ends { first: 2, stable: 3, end: 3 });
    cluster.delete_topic(topic).await.unwrap();
    assert!(cluster.read_committed(topic).await.is_err());
    assert!(cluster.ends(topic).await.is_err());
}
