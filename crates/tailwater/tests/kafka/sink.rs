//! ClickHouse refuses rows, or is away.

use std::time::Duration;

use bson::doc;
use tailwater_pipeline::failpoint;
use tailwater_testkit::servers::Weather;

use crate::normalizer::mapping;
use crate::stage::Stage;

/// `DELIVERY.md` §8, line 14.
#[tokio::test(flavor = "multi_thread")]
async fn refused_rows_become_dead_letters_once_though_it_dies_between_them_and_the_mapping_changes()
{
    let Some(mut stage) = Stage::set("refused").await else { return };
    stage.settings.partitions = 1;
    stage.settings.mapping = Some((mapping(&stage, "n"), "inline"));
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(5).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    let rows = stage.rows("record_raw").await;
    let good = "ADD CONSTRAINT good CHECK NOT startsWith(doc_id, 'bad')";
    stage.execute(&format!("ALTER TABLE record_raw {good}")).await;
    sink.stop().await;

    let documents = (0..20).map(|number| match [3, 4, 17].contains(&number) {
        true => doc! { "_id": format!("bad {number}") },
        false => doc! { "_id": format!("good {number}") },
    });
    stage.coll("files").insert_many(documents).await.unwrap();
    stage.judge_topics(&mut source).await;
    for tags in ["n", "n, m", "m"] {
        stage.settings.mapping = Some((mapping(&stage, tags), "inline"));
        stage.start_at(&["sink"], failpoint::REJECTED).dies().await;
    }
    let mut sink = stage.start(&["sink"]);
    stage.wait_for_rows(rows + 17, &mut [&mut source, &mut sink]).await;
    stage.write(5).await;
    stage.wait_for_rows(rows + 22, &mut [&mut source, &mut sink]).await;
    assert_eq!(stage.rows("record_raw").await, rows + 22);
    assert_eq!(stage.rows("tailwater_dead_letters").await, 3);
    let all =
        "(SELECT _offset FROM record_raw UNION ALL SELECT _offset FROM tailwater_dead_letters)";
    let offsets = stage.number("uniqExact(_offset)", all).await;
    assert_eq!(offsets, Some(rows + 25), "each event is a row or a dead letter");
    for coll in ["files", "jobs"] {
        stage.judge_current(coll, &mut [&mut source, &mut sink]).await;
    }
    sink.stop().await;
    source.stop().await;
}

/// The steps of a delivery, and those of finishing what the one before has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_dies_at_each_step_writes_each_event_once() {
    let Some(mut stage) = Stage::set("sinksteps").await else { return };
    stage.settings.properties[0].1 = "1500".to_owned();
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let steps = [failpoint::CHECKPOINT_PLACED, failpoint::DECLARED, failpoint::WRITTEN]
        .map(|step| format!("{step}:2"));
    let of_recovery = [failpoint::READ_BACK, failpoint::RESENT, failpoint::RECOVERED];
    for step in steps {
        for order in of_recovery.iter().map(|&step| step.to_owned()).chain([step]) {
            let mut sink = stage.start_at(&["sink"], &order);
            stage.write_until(|| sink.has_ended()).await;
            sink.dies().await;
        }
    }
    let mut sink = stage.start(&["sink"]);
    stage.judge(&mut [&mut source, &mut sink]).await;
    assert!(sink.log().contains("finishing the pending range"));
    sink.stop().await;
    source.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clickhouse_that_was_away_gets_everything_once() {
    let Some(mut stage) = Stage::set("away").await else { return };
    stage.make_topics().await;
    let mut source = stage.start(&["source"]);
    let mut sink = stage.start(&["sink"]);
    stage.write(50).await;
    stage.judge(&mut [&mut source, &mut sink]).await;
    for weather in [Weather::Broken, Weather::Slow(Duration::from_millis(100)), Weather::Broken] {
        stage.proxy.turn(weather);
        let log = sink.log().len();
        let mut looks = 0;
        stage
            .write_until(|| {
                looks += 1;
                looks > 20 || sink.log()[log..].contains("write failed")
            })
            .await;
    }
    sink.says("write failed").await;
    stage.proxy.turn(Weather::Clear);
    stage.judge(&mut [&mut source, &mut sink]).await;
    sink.stop().await;
    source.stop().await;
}
