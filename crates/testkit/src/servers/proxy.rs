//! A TCP proxy before a server: it loses one answer, keeps one request for later, cuts one short,
//! or makes the whole network slow, silent or broken.
//!
//! It knows of HTTP only what it needs: an insert into the event table shows that in its first
//! line.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// What together shows that a request is an insert that must not come twice.
const MARKS: [&[u8]; 2] = [b"query=INSERT", b"record_raw"];

/// What happens to the next insert into the event table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The server does it, but its answer never arrives.
    SwallowReply,
    /// It is kept, and sent to the server when [`Caught::release`] is called.
    HoldRequest,
    /// As [`Fault::HoldRequest`], and the client's connection is reset once the request is kept.
    HoldAndHangUp,
    /// Only so many bytes of it reach the server; then both connections break.
    CutRequest(usize),
}

/// What every connection meets, those that are open too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Everything goes through.
    Clear,
    /// Connections are reset, new ones at once.
    Broken,
    /// Connections stay open and new ones are taken, but nothing goes through. What was sent
    /// meanwhile arrives when the weather clears.
    Silent,
    /// Each piece waits so long before it goes on.
    Slow(Duration),
}

/// The insert that a fault has met. It waits for [`Caught::go`].
#[derive(Debug)]
pub struct Caught {
    go: Option<oneshot::Sender<()>>,
    done: Option<oneshot::Receiver<()>>,
    release: Option<oneshot::Sender<()>>,
    released: Option<oneshot::Receiver<String>>,
}

impl Caught {
    /// Lets it go on; returns when the server has answered, the whole request is kept, or it is
    /// cut.
    ///
    /// # Errors
    ///
    /// When the connection broke before that.
    pub async fn go(&mut self) -> anyhow::Result<()> {
        let _sent = self.go.take().context("it is under way already")?.send(());
        let done = self.done.take().context("it is under way already")?;
        done.await.context("the connection broke before the fault was done")
    }

    /// Sends the kept request to the server and waits for its answer.
    ///
    /// # Errors
    ///
    /// When nothing was kept, or the server does not answer that it has done it.
    pub async fn release(&mut self) -> anyhow::Result<()> {
        let _sent = self.release.take().context("nothing is kept")?.send(());
        let released = self.released.take().context("nothing is kept")?;
        let answer = released.await.context("the kept request was not answered")?;
        anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "the kept request failed: {answer}");
        Ok(())
    }
}

struct Armed {
    fault: Fault,
    caught: oneshot::Sender<Caught>,
}

type Trap = Arc<Mutex<Option<Armed>>>;

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    trap: Trap,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for Armed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Armed").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Listens on a free loopback port and forwards to `server`.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let trap = Trap::default();
        let of_connections = Arc::clone(&trap);
        let (weather, forecast) = watch::channel(Weather::Clear);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let trap = Arc::clone(&of_connections);
                let forecast = forecast.clone();
                tokio::spawn(async move {
                    // A broken connection is for its two ends to notice.
                    if let Err(error) = forward(client, server, &trap, forecast).await {
                        tracing::debug!(%error, "a connection through the proxy broke");
                    }
                });
            }
        });
        Ok(Self { address, trap, weather, task })
    }

    /// Changes what every connection meets.
    pub fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets a trap for the next insert; the receiver gets it when it is caught.
    pub fn arm(&self, fault: Fault) -> oneshot::Receiver<Caught> {
        let (caught, receiver) = oneshot::channel();
        let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        *trap = Some(Armed { fault, caught });
        receiver
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    mut client: TcpStream,
    server: SocketAddr,
    trap: &Trap,
    mut weather: watch::Receiver<Weather>,
) -> anyhow::Result<()> {
    // The server sees a connection only when it could reach it.
    weather.wait_for(|now| *now != Weather::Silent).await?;
    if *weather.borrow() == Weather::Broken {
        return Ok(client.set_zero_linger()?);
    }
    let mut upstream = TcpStream::connect(server).await?;
    let (mut request, mut reply) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Clear | Weather::Slow(_) => {}
            Weather::Silent => {
                weather.changed().await?;
                continue;
            }
            Weather::Broken => {
                upstream.set_zero_linger()?;
                return Ok(client.set_zero_linger()?);
            }
        }
        tokio::select! {
            changed = weather.changed() => changed?,
            count = client.read(&mut request) => {
                let bytes = &request[..count?];
                if bytes.is_empty() {
                    return Ok(());
                }
                linger(now).await;
                if let Some(armed) = spring(trap, bytes) {
                    let first = bytes.to_vec();
                    return match armed.fault {
                        Fault::SwallowReply => swallow(client, upstream, first, armed).await,
                        Fault::HoldRequest | Fault::HoldAndHangUp => {
                            hold(client, upstream, first, armed).await
                        }
                        Fault::CutRequest(after) => {
                            cut(client, upstream, first, armed, after).await
                        }
                    };
                }
                upstream.write_all(bytes).await?;
            }
            count = upstream.read(&mut reply) => {
                let bytes = &reply[..count?];
                if bytes.is_empty() {
                    return Ok(());
                }
                linger(now).await;
                client.write_all(bytes).await?;
            }
        }
    }
}

async fn linger(weather: Weather) {
    if let Weather::Slow(pause) = weather {
        tokio::time::sleep(pause).await;
    }
}

/// Takes the trap if these bytes begin an insert into the event table.
fn spring(trap: &Trap, bytes: &[u8]) -> Option<Armed> {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let holds = |mark: &[u8]| line.windows(mark.len()).any(|window| window == mark);
    if !line.starts_with(b"POST ") || !MARKS.iter().all(|mark| holds(mark)) {
        return None;
    }
    trap.lock().unwrap_or_else(PoisonError::into_inner).take()
}

async fn swallow(
    mut client: TcpStream,
    mut upstream: TcpStream,
    first: Vec<u8>,
    armed: Armed,
) -> anyhow::Result<()> {
    let (go, gone) = oneshot::channel();
    let (finish, done) = oneshot::channel();
    let caught = Caught { go: Some(go), done: Some(done), release: None, released: None };
    armed.caught.send(caught).ok().context("nobody waits for the fault")?;
    gone.await?;
    upstream.write_all(&first).await?;
    let (mut request, mut reply) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            count = client.read(&mut request) => {
                upstream.write_all(&request[..count?]).await?;
            }
            count = upstream.read(&mut reply) => {
                anyhow::ensure!(count? > 0, "the server hung up");
                break;
            }
        }
    }
    let _told = finish.send(());
    // Silence, until the client goes away.
    while client.read(&mut request).await? > 0 {}
    Ok(())
}

async fn hold(
    mut client: TcpStream,
    mut upstream: TcpStream,
    mut kept: Vec<u8>,
    armed: Armed,
) -> anyhow::Result<()> {
    let (go, gone) = oneshot::channel();
    let (finish, done) = oneshot::channel();
    let (release, let_go) = oneshot::channel();
    let (answer, released) = oneshot::channel();
    let caught =
        Caught { go: Some(go), done: Some(done), release: Some(release), released: Some(released) };
    armed.caught.send(caught).ok().context("nobody waits for the fault")?;
    gone.await?;
    let mut more = vec![0; 1 << 16];
    while !is_whole(&kept) {
        let count = client.read(&mut more).await?;
        anyhow::ensure!(count > 0, "the client hung up in the middle of its request");
        kept.extend_from_slice(&more[..count]);
    }
    // A client that waits must not see an end; one that has gone leaves its request behind.
    let waiting = match armed.fault {
        Fault::HoldAndHangUp => {
            client.set_zero_linger()?;
            drop(client);
            None
        }
        _ => Some(client),
    };
    let _told = finish.send(());
    let_go.await?;
    drop(waiting);
    upstream.write_all(&kept).await?;
    let count = upstream.read(&mut more).await?;
    anyhow::ensure!(count > 0, "the server hung up");
    let _told = answer.send(String::from_utf8_lossy(&more[..count]).into_owned());
    Ok(())
}

async fn cut(
    mut client: TcpStream,
    mut upstream: TcpStream,
    mut sent: Vec<u8>,
    armed: Armed,
    after: usize,
) -> anyhow::Result<()> {
    let (go, gone) = oneshot::channel();
    let (finish, done) = oneshot::channel();
    let caught = Caught { go: Some(go), done: Some(done), release: None, released: None };
    armed.caught.send(caught).ok().context("nobody waits for the fault")?;
    gone.await?;
    let mut more = vec![0; 1 << 16];
    while sent.len() < after && !is_whole(&sent) {
        let count = client.read(&mut more).await?;
        anyhow::ensure!(count > 0, "the client hung up in the middle of its request");
        sent.extend_from_slice(&more[..count]);
    }
    // Never the whole of it: the last byte is missing at the least.
    upstream.write_all(&sent[..after.min(sent.len() - 1)]).await?;
    drop(upstream);
    client.set_zero_linger()?;
    drop(client);
    let _told = finish.send(());
    Ok(())
}

/// Whether the bytes hold a request with all of its body.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|length| length.trim().parse::<usize>().ok()) {
        Some(length) => request.len() >= end + 4 + length,
        None => request.ends_with(b"0\r\n\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers with what it has read, and to an insert that it is done.
    async fn echo() -> (Proxy, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await.unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut bytes = [0; 1024];
                    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                        let insert = bytes.starts_with(b"POST ");
                        let answer = if insert { DONE } else { &bytes[..count] };
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        (proxy, server)
    }

    const INSERT: &[u8] = b"POST /?query=INSERT+INTO+record_raw HTTP/1.1\r\n\
                            content-length: 3\r\n\r\nabc";

    const DONE: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

    async fn ask(proxy: &Proxy, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.address()).await?;
        stream.write_all(request).await?;
        let mut answer = vec![0; 1024];
        let count = stream.read(&mut answer).await?;
        answer.truncate(count);
        Ok(answer)
    }

    #[tokio::test]
    async fn a_kept_insert_outlives_its_client() {
        let (proxy, _server) = echo().await;
        let caught = proxy.arm(Fault::HoldAndHangUp);
        let client = async {
            assert_eq!(ask(&proxy, b"GET / HTTP/1.1\r\n").await.unwrap(), b"GET / HTTP/1.1\r\n");
            ask(&proxy, INSERT).await
        };
        let holder = async {
            let mut caught = caught.await.unwrap();
            caught.go().await.unwrap();
            caught
        };
        let (answer, mut caught) = tokio::join!(client, holder);
        assert!(answer.is_err(), "{answer:?}");
        caught.release().await.unwrap();
        assert_eq!(ask(&proxy, INSERT).await.unwrap(), DONE, "only one is caught");
    }

    #[tokio::test]
    async fn a_cut_insert_breaks_both_connections() {
        let (proxy, _server) = echo().await;
        let caught = proxy.arm(Fault::CutRequest(9_999));
        let (answer, ()) = tokio::join!(ask(&proxy, INSERT), async {
            caught.await.unwrap().go().await.unwrap();
        });
        assert!(answer.is_err(), "{answer:?}");
    }

    #[tokio::test]
    async fn silence_keeps_what_was_sent_and_a_break_does_not() {
        let (proxy, _server) = echo().await;
        proxy.turn(Weather::Silent);
        let waiting = ask(&proxy, INSERT);
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(early.is_err(), "{early:?}");
        proxy.turn(Weather::Slow(Duration::from_millis(1)));
        assert_eq!(waiting.await.unwrap(), DONE);
        proxy.turn(Weather::Broken);
        let answer = ask(&proxy, INSERT).await;
        assert!(answer.is_err(), "{answer:?}");
    }

    #[test]
    fn a_request_is_whole_with_its_last_byte() {
        assert!(!is_whole(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nab"));
        assert!(is_whole(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"));
        assert!(!is_whole(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"));
        assert!(is_whole(
            b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        ));
    }
}
