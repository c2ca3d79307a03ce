//! The answer: head, body as it comes, and exceptions before and amid it.
//!
//! A client must never take a cut answer for a whole one: after an exception amid the data the
//! exception's text follows, and the connection breaks without the body's end.

use std::convert::Infallible;
use std::io;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

use crate::compression::{Encoding, Packer};
use crate::exception::Exception;
use crate::ffi::Figures;

/// Held back before the head goes out, as a ClickHouse server does: so most exceptions get a status
/// of their own, and small results a summary that counts their rows.
const HOLD_BYTES: usize = 1 << 20;
/// Pieces under way to the client.
const PIECES: usize = 4;

/// The client is gone.
#[derive(Debug)]
pub(crate) struct Gone;

#[derive(Debug)]
enum Piece {
    Data(Vec<u8>),
    End,
    Break,
}

/// Status and headers.
pub(crate) type Head = (StatusCode, HeaderMap);

/// The side of an answer that the query writes to.
pub(crate) struct Responder {
    head: Option<oneshot::Sender<Head>>,
    body: mpsc::Sender<Piece>,
    headers: HeaderMap,
    version: String,
    tag: String,
    packer: Packer,
    blocks: bool,
    held: Vec<u8>,
    hold: usize,
    asked: Instant,
}

/// The side that goes to the client.
pub(crate) struct Answer {
    head: oneshot::Receiver<Head>,
    body: mpsc::Receiver<Piece>,
}

/// How an answer is packed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Packing {
    pub(crate) blocks: bool,
    pub(crate) encoding: Option<Encoding>,
    pub(crate) wait_end: bool,
}

pub(crate) fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

impl Responder {
    /// Makes both sides; `headers` go with whatever is answered.
    pub(crate) fn new(
        mut headers: HeaderMap,
        version: &str,
        tag: String,
        packing: Packing,
    ) -> io::Result<(Self, Answer)> {
        let (head, head_receiver) = oneshot::channel();
        let (body, body_receiver) = mpsc::channel(PIECES);
        let packer = match (packing.encoding, packing.blocks) {
            (Some(encoding), _) => Packer::encoding(encoding)?,
            (None, true) => Packer::Blocks,
            (None, false) => Packer::Plain,
        };
        if let Some(encoding) = packing.encoding {
            set(&mut headers, "content-encoding", encoding.name());
        }
        set(&mut headers, "x-clickhouse-exception-tag", &tag);
        let responder = Self {
            head: Some(head),
            body,
            headers,
            version: version.to_owned(),
            tag,
            packer,
            blocks: packing.blocks && packing.encoding.is_none(),
            held: Vec::new(),
            asked: Instant::now(),
            hold: if packing.wait_end { usize::MAX } else { HOLD_BYTES },
        };
        Ok((responder, Answer { head: head_receiver, body: body_receiver }))
    }

    /// Names the format of the data that will follow.
    pub(crate) fn set_format(&mut self, format: &str) {
        set(&mut self.headers, "x-clickhouse-format", format);
        set(&mut self.headers, "content-type", content_type(format));
    }

    fn start(&mut self, status: StatusCode) -> Result<(), Gone> {
        let Some(head) = self.head.take() else { return Ok(()) };
        head.send((status, std::mem::take(&mut self.headers))).map_err(|_| Gone)
    }

    fn send(&mut self, data: &[u8]) -> Result<(), Gone> {
        let packed = self.packer.pack(data).map_err(|_| Gone)?;
        if packed.is_empty() {
            return Ok(());
        }
        self.body.blocking_send(Piece::Data(packed)).map_err(|_| Gone)
    }

    /// Sends a piece of the result.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(), Gone> {
        if self.head.is_some() {
            self.held.extend_from_slice(data);
            if self.held.len() < self.hold {
                return Ok(());
            }
            set_summary(&mut self.headers, Figures::default(), self.asked.elapsed());
            self.start(StatusCode::OK)?;
            let held = std::mem::take(&mut self.held);
            return self.send(&held);
        }
        self.send(data)
    }

    /// Ends a whole answer.
    pub(crate) fn finish(mut self, figures: Figures) -> Result<(), Gone> {
        set_summary(&mut self.headers, figures, self.asked.elapsed());
        self.start(StatusCode::OK)?;
        let held = std::mem::take(&mut self.held);
        self.send(&held)?;
        self.end(Piece::End)
    }

    /// Ends with an exception: as the answer if none has begun, else behind the data.
    pub(crate) fn fail(mut self, exception: &Exception) -> Result<(), Gone> {
        let text = exception.text(&self.version);
        if self.head.is_none() {
            let block = format!(
                "\r\n__exception__\r\n{tag}\r\n{text}{length} {tag}\r\n__exception__\r\n",
                tag = self.tag,
                length = text.len(),
            );
            self.send(block.as_bytes())?;
            return self.end(Piece::Break);
        }
        set(&mut self.headers, "x-clickhouse-exception-code", &exception.code.to_string());
        set(&mut self.headers, "content-type", "text/plain; charset=UTF-8");
        if exception.code == crate::exception::REQUIRED_PASSWORD.0 {
            set(&mut self.headers, "www-authenticate", "Basic realm=\"tailwater engine\"");
        }
        // A packed text helps nobody who reads it by eye; only the block protocol expects it.
        if !self.blocks {
            self.headers.remove(header::CONTENT_ENCODING);
            self.packer = Packer::Plain;
        }
        self.start(exception.status())?;
        self.send(text.as_bytes())?;
        self.end(Piece::End)
    }

    fn end(self, last: Piece) -> Result<(), Gone> {
        let rest = self.packer.finish().map_err(|_| Gone)?;
        if !rest.is_empty() {
            self.body.blocking_send(Piece::Data(rest)).map_err(|_| Gone)?;
        }
        self.body.blocking_send(last).map_err(|_| Gone)
    }
}

/// Time for the last piece to leave before the connection is broken on purpose: a break throws
/// away what was not yet written.
const BREAK_AFTER: Duration = Duration::from_millis(100);

impl Answer {
    /// Waits for the head and gives the whole response; `watch` lives as long as its body.
    pub(crate) async fn response(self, watch: impl Send + 'static) -> Response<Body> {
        let Ok((status, headers)) = self.head.await else {
            // The query's thread died, which is a bug; its panic is in the log.
            let mut response = Response::new(Body::from("the query's thread died\n"));
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        };
        let body = futures_util::stream::unfold((self.body, watch), |(mut body, watch)| async {
            match body.recv().await {
                Some(Piece::Data(data)) => Some((Ok(Bytes::from(data)), (body, watch))),
                Some(Piece::End) => None,
                Some(Piece::Break) | None => {
                    tokio::time::sleep(BREAK_AFTER).await;
                    Some((Err(io::Error::other("the answer was cut")), (body, watch)))
                }
            }
        });
        let mut response = Response::new(Body::from_stream(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// What is known of the query so far; clients read the rows of a small result from here.
fn set_summary(headers: &mut HeaderMap, figures: Figures, elapsed: Duration) {
    let fields = [
        ("read_rows", u128::from(figures.read_rows)),
        ("read_bytes", u128::from(figures.read_bytes)),
        ("written_rows", u128::from(figures.written_rows)),
        ("written_bytes", u128::from(figures.written_bytes)),
        ("total_rows_to_read", u128::from(figures.read_rows)),
        ("result_rows", u128::from(figures.result_rows)),
        ("result_bytes", u128::from(figures.result_bytes)),
        ("elapsed_ns", elapsed.as_nanos()),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\":\"{value}\""));
    set(headers, "x-clickhouse-summary", &format!("{{{}}}", fields.join(",")));
}

/// What a ClickHouse server calls a format over HTTP.
fn content_type(format: &str) -> &'static str {
    match format {
        "JSON"
        | "JSONCompact"
        | "JSONStrings"
        | "JSONCompactStrings"
        | "JSONColumns"
        | "JSONCompactColumns"
        | "JSONColumnsWithMetadata"
        | "JSONObjectEachRow" => "application/json; charset=UTF-8",
        name if name.starts_with("JSON") => "application/x-ndjson; charset=UTF-8",
        "CSVWithNames" | "CSVWithNamesAndTypes" => "text/csv; charset=UTF-8; header=present",
        "CSV" => "text/csv; charset=UTF-8; header=absent",
        "XML" => "application/xml; charset=UTF-8",
        "Markdown" => "text/markdown; charset=UTF-8",
        name if name.starts_with("TabSeparated") || name.starts_with("TSV") => {
            "text/tab-separated-values; charset=UTF-8"
        }
        name if name.starts_with("Pretty") || name.starts_with("Values") || name == "Vertical" => {
            "text/plain; charset=UTF-8"
        }
        _ => "application/octet-stream",
    }
}

/// A short text, without a query.
pub(crate) fn plain(status: StatusCode, text: &'static str) -> Result<Response<Body>, Infallible> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    set(response.headers_mut(), "content-type", "text/html; charset=UTF-8");
    Ok(response)
}
