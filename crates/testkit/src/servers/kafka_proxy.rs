//! A proxy before a Kafka broker: it refuses one produce request, as a broker does that has not heard
//! yet that it leads the partition, and lets the next ones through that were on their way behind it.
//!
//! Clients come to it where the broker advertises its address. It knows of the protocol only what it
//! needs: how long a frame is, and which topic a produce request is for.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::{Options, free_port};

/// `ApiKey` of a produce request.
const PRODUCE: i16 = 0;
/// The versions whose form is known here: the first flexible one, to the last one that names topics.
const VERSIONS: std::ops::RangeInclusive<i16> = 9..=12;
/// `NOT_LEADER_OR_FOLLOWER`.
const NOT_LEADER: i16 = 6;

/// A running proxy.
#[derive(Debug)]
pub struct KafkaProxy {
    address: SocketAddr,
    broker: u16,
    armed: Arc<Mutex<Option<String>>>,
    task: JoinHandle<()>,
}

impl KafkaProxy {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let broker = free_port()?;
        let armed = Arc::<Mutex<Option<String>>>::default();
        let of_connections = Arc::clone(&armed);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let armed = Arc::clone(&of_connections);
                tokio::spawn(async move {
                    // A broken connection is for its two ends to notice.
                    if let Err(error) = forward(client, broker, &armed).await {
                        tracing::debug!(%error, "a connection through the proxy broke");
                    }
                });
            }
        });
        Ok(Self { address, broker, armed, task })
    }

    /// What a broker is to be started with to be behind it.
    pub fn options(&self) -> Options {
        let advertised = ("advertised.listeners", format!("PLAINTEXT://{}", self.address));
        Options { open: Some(self.broker), properties: vec![advertised], ..Options::default() }
    }

    /// Refuses the next produce request for a topic, once another one for it is on its way too.
    pub fn refuse_next(&self, topic: &str) {
        *lock(&self.armed) = Some(topic.to_owned());
    }
}

impl Drop for KafkaProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    client: TcpStream,
    broker: u16,
    armed: &Mutex<Option<String>>,
) -> anyhow::Result<()> {
    let upstream = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)).await?;
    let (mut requests, to_client) = client.into_split();
    let (mut answers, mut to_broker) = upstream.into_split();
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let answering = Arc::clone(&to_client);
    let answer = async move {
        loop {
            let frame = frame(&mut answers).await?;
            write(&mut *answering.lock().await, &frame).await?;
        }
    };
    let ask = async move {
        let mut refused: Option<Produce> = None;
        loop {
            let frame = frame(&mut requests).await?;
            let produce = Produce::of(&frame)?;
            if let (Some(first), Some(second)) = (&refused, &produce)
                && first.topic == second.topic
            {
                let refusal = first.refusal();
                write(&mut *to_client.lock().await, &refusal).await?;
                refused = None;
            }
            let is_armed = |produce: &Produce| lock(armed).as_ref() == Some(&produce.topic);
            match produce.filter(is_armed) {
                Some(produce) => {
                    *lock(armed) = None;
                    refused = Some(produce);
                }
                None => write(&mut to_broker, &frame).await?,
            }
        }
    };
    tokio::select! {
        ended = ask => ended,
        ended = answer => ended,
    }
}

/// A produce request of one partition.
#[derive(Debug)]
struct Produce {
    correlation: [u8; 4],
    topic: String,
    partition: [u8; 4],
}

impl Produce {
    /// `None`: it is another request.
    fn of(frame: &[u8]) -> anyhow::Result<Option<Self>> {
        let mut rest = frame;
        if i16::from_be_bytes(take(&mut rest)?) != PRODUCE {
            return Ok(None);
        }
        let version = i16::from_be_bytes(take(&mut rest)?);
        ensure!(VERSIONS.contains(&version), "a produce request of version {version}");
        let correlation = take(&mut rest)?;
        let client = i16::from_be_bytes(take(&mut rest)?);
        skip(&mut rest, usize::try_from(client).unwrap_or_default())?;
        no_tags(&mut rest)?;
        let transaction = length(&mut rest)?;
        skip(&mut rest, transaction)?;
        // Acknowledgements, and the time-out.
        skip(&mut rest, 2 + 4)?;
        ensure!(length(&mut rest)? == 1, "a produce request of several topics");
        let topic = length(&mut rest)?;
        let topic = std::str::from_utf8(skip(&mut rest, topic)?)?.to_owned();
        ensure!(length(&mut rest)? == 1, "a produce request of several partitions");
        Ok(Some(Self { correlation, topic, partition: take(&mut rest)? }))
    }

    /// The answer of a broker that does not lead the partition.
    fn refusal(&self) -> Vec<u8> {
        let [none, one] = [[0], [2]];
        let name = u8::try_from(self.topic.len() + 1).expect("a test's topic has a short name");
        [
            &self.correlation[..],
            &none,
            &one,
            &[name],
            self.topic.as_bytes(),
            &one,
            &self.partition,
            &NOT_LEADER.to_be_bytes(),
            // The offset, the time, and the first offset.
            &[0xff; 3 * 8],
            // Errors of single records: an empty list. What is said of them: nothing.
            &[1],
            &none,
            // Tags of the partition, and of the topic.
            &none,
            &none,
            // The time to wait.
            &[0; 4],
            &none,
        ]
        .concat()
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> anyhow::Result<[u8; N]> {
    Ok(skip(rest, N)?.try_into()?)
}

fn skip<'b>(rest: &mut &'b [u8], count: usize) -> anyhow::Result<&'b [u8]> {
    let (skipped, behind) = rest.split_at_checked(count).context("a request is cut short")?;
    *rest = behind;
    Ok(skipped)
}

fn no_tags(rest: &mut &[u8]) -> anyhow::Result<()> {
    ensure!(take(rest)? == [0], "a request with tags");
    Ok(())
}

/// A length of the compact kind: a varint, one more than it is; none is like an empty one.
fn length(rest: &mut &[u8]) -> anyhow::Result<usize> {
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let [byte] = take(rest)?;
        length |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(length.saturating_sub(1));
        }
        shift += 7;
        ensure!(shift < 28, "a length without an end");
    }
}

async fn frame(from: &mut OwnedReadHalf) -> anyhow::Result<Vec<u8>> {
    let mut frame = vec![0; usize::try_from(from.read_i32().await?)?];
    from.read_exact(&mut frame).await?;
    Ok(frame)
}

async fn write(to: &mut OwnedWriteHalf, frame: &[u8]) -> anyhow::Result<()> {
    to.write_i32(i32::try_from(frame.len())?).await?;
    Ok(to.write_all(frame).await?)
}

fn lock(armed: &Mutex<Option<String>>) -> std::sync::MutexGuard<'_, Option<String>> {
    armed.lock().unwrap_or_else(PoisonError::into_inner)
}
