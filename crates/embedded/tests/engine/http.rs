//! A small HTTP client that sees what went over the wire: chunks, a missing end, raw bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The body came to its announced end.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The text of an answer that must be a success.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.whole, "{}", self.text());
        self.text()
    }

    /// Exception code and status of an answer that must be a refusal.
    #[track_caller]
    pub(crate) fn refusal(&self) -> (i32, u16) {
        let code = self.header("X-ClickHouse-Exception-Code").and_then(|code| code.parse().ok());
        let code = code.unwrap_or_else(|| panic!("no exception: {} {}", self.head, self.text()));
        assert!(self.text().starts_with(&format!("Code: {code}. DB::Exception: ")), "{self:?}");
        (code, self.status)
    }
}

/// One request; built step by step, sent once.
pub(crate) struct Ask {
    address: SocketAddr,
    method: &'static str,
    parameters: url::form_urlencoded::Serializer<'static, String>,
    headers: String,
    body: Vec<u8>,
}

impl Ask {
    pub(crate) fn post(address: SocketAddr, body: impl Into<Vec<u8>>) -> Self {
        Self {
            address,
            method: "POST",
            parameters: url::form_urlencoded::Serializer::new(String::new()),
            headers: String::new(),
            body: body.into(),
        }
    }

    pub(crate) fn get(address: SocketAddr, query: &str) -> Self {
        let mut ask = Self::post(address, Vec::new()).with("query", query);
        ask.method = "GET";
        ask
    }

    /// Adds a parameter to the URL.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.parameters.append_pair(name, value);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    fn head(&mut self) -> String {
        let query = self.parameters.finish();
        format!(
            "{} /?{query} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {}\r\n{}\r\n",
            self.method,
            self.body.len(),
            self.headers
        )
    }

    /// Sends the request but for the last `missing` bytes, and gives the open connection.
    pub(crate) fn open(mut self, missing: usize) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
        stream.write_all(self.head().as_bytes()).unwrap();
        stream.write_all(&self.body[..self.body.len() - missing]).unwrap();
        stream
    }

    pub(crate) fn send(self) -> Answer {
        read_answer(&mut self.open(0))
    }

    /// As [`Self::send`], for an engine that may be killed meanwhile.
    pub(crate) fn try_send(mut self) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(self.head().as_bytes())?;
        stream.write_all(&self.body)?;
        let mut raw = Vec::new();
        stream.read_to_end(&mut raw)?;
        parse(&raw).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
    }
}

fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut raw = Vec::new();
    // A broken connection ends the data as well; `whole` tells.
    if let Err(error) = stream.read_to_end(&mut raw) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    parse(&raw).unwrap_or_else(|| panic!("no HTTP: {}", String::from_utf8_lossy(&raw)))
}

fn parse(raw: &[u8]) -> Option<Answer> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(raw[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let rest = &raw[end + 4..];
    let lower = head.to_ascii_lowercase();
    let (body, whole) = if lower.contains("transfer-encoding: chunked") {
        chunks(rest)
    } else {
        let length = lower.split("content-length: ").nth(1)?.lines().next()?.parse::<usize>();
        (rest.to_vec(), length.ok()? == rest.len())
    };
    Some(Answer { status, head, body, whole })
}

fn chunks(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = rest.windows(2).position(|window| window == b"\r\n") else {
            return (body, false);
        };
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        rest = &rest[line + 2..];
        if size == 0 {
            return (body, true);
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..size.min(rest.len())]);
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}
