//! The HTTP side: routes, who may ask, and the way of a request's body and answer between the
//! client's task and the thread on which the engine works.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use bytes::{Buf as _, Bytes};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};

use crate::engine::Engine;
use crate::exception::{
    AUTHENTICATION_FAILED, BAD_ARGUMENTS, CANNOT_SCHEDULE_TASK, Exception, NOT_IMPLEMENTED,
    REQUIRED_PASSWORD, TOO_MANY_QUERIES,
};
use crate::execute::{self, Progress, STACK_BYTES};
use crate::request::Request;
use crate::respond::{Packing, Responder, plain, set};

/// Queries at once; each holds a thread or two.
const MAX_QUERIES: usize = 256;
/// Pieces of a body that wait for the engine.
const BODY_PIECES: usize = 8;
/// A form holds a query and its parameters, never data.
const MAX_FORM_BYTES: u64 = 64 << 20;

/// What every request shares.
pub(crate) struct Server {
    engine: Arc<Engine>,
    /// The digest of the password that a client must give; `None` lets everybody in.
    password: Option<[u8; 32]>,
    queries: Arc<Semaphore>,
}

impl Server {
    pub(crate) fn new(engine: Engine, password: Option<&str>) -> Self {
        Self {
            engine: Arc::new(engine),
            password: password.map(digest),
            queries: Arc::new(Semaphore::new(MAX_QUERIES)),
        }
    }

    /// The routes of this server.
    pub(crate) fn router(self) -> Router {
        Router::new().fallback(answer).with_state(Arc::new(self))
    }

    fn admit(&self, request: &Request) -> Result<(), Exception> {
        let Some(expected) = self.password else { return Ok(()) };
        let Some(given) = request.password.as_deref().filter(|given| !given.is_empty()) else {
            return Err(Exception::new(REQUIRED_PASSWORD, "this server needs a password"));
        };
        // Digests are compared, so that the time taken tells nothing of the password.
        if digest(given) == expected {
            return Ok(());
        }
        let user = request.user.as_deref().unwrap_or("default");
        let message = format!("{user}: Authentication failed: password is incorrect");
        Err(Exception::new(AUTHENTICATION_FAILED, &message))
    }
}

fn digest(password: &str) -> [u8; 32] {
    Sha256::digest(password.as_bytes()).into()
}

/// Kills a read-only query whose client left, when the answer is dropped before its end.
struct Watch {
    engine: Arc<Engine>,
    progress: Arc<Progress>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let ended = self.progress.ended.load(Ordering::Acquire);
        if !ended && self.progress.may_be_killed.load(Ordering::Acquire) {
            execute::kill_in_background(&self.engine, &self.progress);
        }
    }
}

async fn answer(
    State(server): State<Arc<Server>>,
    request: axum::extract::Request,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (parts, body) = request.into_parts();
    let asks =
        parts.method == Method::POST || parts.uri.query().is_some_and(|query| !query.is_empty());
    match parts.uri.path() {
        "/ping" | "/replicas_status" => return plain(StatusCode::OK, "Ok.\n"),
        "/" | "/query" if asks => {}
        "/" => return plain(StatusCode::OK, "Ok.\n"),
        _ => return plain(StatusCode::NOT_FOUND, "There is no such page. Use / or /ping.\n"),
    }
    let mark = random_name();
    let mut headers = HeaderMap::new();
    set(&mut headers, "x-clickhouse-server-display-name", "tailwater");
    set(&mut headers, "x-clickhouse-timezone", server.engine.timezone());
    set(&mut headers, "content-type", "text/plain; charset=UTF-8");
    let mut asked = match Request::read(&parts.method, &parts.uri, &parts.headers) {
        Ok(asked) => asked,
        Err(exception) => return Ok(refuse(&server, headers, &exception)),
    };
    set(&mut headers, "x-clickhouse-query-id", asked.query_id.as_deref().unwrap_or(&mark));
    if let Err(exception) = server.admit(&asked) {
        return Ok(refuse(&server, headers, &exception));
    }
    let Ok(permit) = Arc::clone(&server.queries).try_acquire_owned() else {
        let exception = Exception::new(TOO_MANY_QUERIES, "Too many simultaneous queries");
        return Ok(refuse(&server, headers, &exception));
    };
    let body = match form_boundary(&parts.headers) {
        None => pump(body),
        Some(boundary) => match read_form(body, boundary, &mut asked).await {
            Ok(()) => pump(Body::empty()),
            Err(exception) => return Ok(refuse(&server, headers, &exception)),
        },
    };
    let packing = Packing {
        blocks: asked.compress,
        encoding: asked.answer_encoding,
        wait_end: asked.wait_end,
    };
    let tag = mark.get(..16).unwrap_or_default().to_owned();
    let sides = Responder::new(headers.clone(), server.engine.version(), tag, packing);
    let (responder, waiting) = match sides {
        Ok(sides) => sides,
        Err(error) => {
            let exception = Exception::new(CANNOT_SCHEDULE_TASK, &error.to_string());
            return Ok(refuse(&server, headers, &exception));
        }
    };
    let progress = Arc::new(Progress {
        mark,
        ended: AtomicBool::new(false),
        may_be_killed: AtomicBool::new(false),
    });
    let watch = Watch { engine: Arc::clone(&server.engine), progress: Arc::clone(&progress) };
    let engine = Arc::clone(&server.engine);
    let spawned = std::thread::Builder::new()
        .name("request".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            execute::execute(&engine, &asked, body, responder, &progress);
            drop(permit);
        });
    if let Err(error) = spawned {
        let exception = Exception::new(CANNOT_SCHEDULE_TASK, &error.to_string());
        return Ok(refuse(&server, headers, &exception));
    }
    Ok(waiting.response(watch).await)
}

/// An answer without a query: the exception as plain text.
fn refuse(server: &Server, mut headers: HeaderMap, exception: &Exception) -> Response<Body> {
    set(&mut headers, "x-clickhouse-exception-code", &exception.code.to_string());
    if exception.status() == StatusCode::UNAUTHORIZED {
        set(&mut headers, "www-authenticate", "Basic realm=\"tailwater engine\"");
    }
    let mut response = Response::new(Body::from(exception.text(server.engine.version())));
    *response.status_mut() = exception.status();
    *response.headers_mut() = headers;
    response
}

/// Thirty-two hex digits that nobody used before.
fn random_name() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without randomness the names only lose their uniqueness over restarts.
        static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        bytes[..8].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    }
    hex::encode(bytes)
}

fn form_boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    multer::parse_boundary(kind).ok()
}

/// Reads a form's fields as if they stood in the URL.
async fn read_form(body: Body, boundary: String, asked: &mut Request) -> Result<(), Exception> {
    let broken = |error: multer::Error| {
        Exception::new(BAD_ARGUMENTS, &format!("cannot read the form: {error}"))
    };
    let limits = multer::Constraints::new()
        .size_limit(multer::SizeLimit::new().whole_stream(MAX_FORM_BYTES));
    let mut form = multer::Multipart::with_constraints(body.into_data_stream(), boundary, limits);
    while let Some(field) = form.next_field().await.map_err(broken)? {
        if field.file_name().is_some() {
            let message = "external tables are not supported by the embedded engine";
            return Err(Exception::new(NOT_IMPLEMENTED, message));
        }
        let name = field.name().unwrap_or_default().to_owned();
        let value = field.text().await.map_err(broken)?;
        asked.take(&name, value);
    }
    Ok(())
}

/// Carries a body to the request's thread. Should the thread need no more of it, the rest is read
/// and thrown away: a client that still sends would otherwise never read the answer.
fn pump(body: Body) -> BodyReader {
    let (sender, receiver) = mpsc::channel(BODY_PIECES);
    tokio::spawn(async move {
        let mut body = body;
        let mut wanted = true;
        while let Some(frame) = body.frame().await {
            let piece = match frame {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Ok(data),
                    Err(_trailers) => continue,
                },
                Err(error) => Err(io::Error::new(io::ErrorKind::ConnectionAborted, error)),
            };
            let last = piece.is_err();
            if wanted {
                wanted = sender.send(Some(piece)).await.is_ok();
            }
            if last {
                return;
            }
        }
        // The end is said aloud: a task that dies must not look like the end of the data.
        if wanted && sender.send(None).await.is_err() {
            tracing::trace!("a request ended before its body");
        }
    });
    BodyReader { receiver, piece: Bytes::new(), ended: false }
}

/// A body as the request's thread reads it.
struct BodyReader {
    receiver: mpsc::Receiver<Option<io::Result<Bytes>>>,
    piece: Bytes,
    ended: bool,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Some(piece)) => self.piece = piece?,
                Some(None) => self.ended = true,
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let read = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(buffer.get_mut(..read).unwrap_or_default());
        Ok(read)
    }
}
