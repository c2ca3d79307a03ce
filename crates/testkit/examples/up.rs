//! scratch
use tailwater_testkit::servers::{Kafka, Mongod};
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mongod = Mongod::start().await?.unwrap();
    let kafka = Kafka::start().await?.unwrap();
    println!("MONGO={}", mongod.uri());
    println!("KAFKA={}", kafka.bootstrap());
    let client = mongod.client().await?;
    let mut line = String::new();
    loop {
        line.clear();
        if std::io::stdin().read_line(&mut line)? == 0 {
            break;
        }
        let n: i32 = line.trim().parse().unwrap_or(1);
        let coll = client.database("ingest").collection::<bson::Document>("files");
        for i in 0..n {
            coll.insert_one(bson::doc! {"status":"arrived","n":i,"at":bson::DateTime::now()})
                .await?;
        }
        println!("wrote {n}");
    }
    Ok(())
}
