//! Runs one request on a thread of its own: settings, then an INSERT fed from the body, or a query
//! whose result is sent as it comes.
//!
//! A SELECT writes through `INTO OUTFILE … APPEND` into a pipe. The C API's own streaming formats
//! each block as a result of its own (JSON would be several documents), and its other calls hold
//! the whole result in memory.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::compression::BlockReader;
use crate::engine::Engine;
use crate::exception::{
    BAD_ARGUMENTS, CANNOT_DECOMPRESS, CANNOT_SCHEDULE_TASK, Exception, INTO_OUTFILE_NOT_ALLOWED,
    NETWORK_ERROR, NOT_IMPLEMENTED, READONLY, SYNTAX_ERROR, UNKNOWN_FORMAT,
};
use crate::ffi::{Class, Connection, Figures};
use crate::request::{Request, identifier};
use crate::respond::{Gone, Responder};
use crate::sql::{self, Shape, Tail};

/// A query's text is held in memory; only an INSERT's data may be larger.
const MAX_QUERY_BYTES: usize = 64 << 20;
/// Data goes to the engine in pieces of this size; it queues 16 of them.
const PIECE_BYTES: usize = 1 << 20;
/// The engine's parser recurses; its own limit expects a thread of this size.
pub(crate) const STACK_BYTES: usize = 8 << 20;

/// What a request's thread shares with the task that waits for it.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Stands in the query's text as a comment, to find it among the running ones.
    pub(crate) mark: String,
    /// The request's thread is done.
    pub(crate) ended: AtomicBool,
    /// The query changes nothing, so that it may be killed when its client is gone.
    pub(crate) may_be_killed: AtomicBool,
}

enum End {
    Refused(Exception),
    Gone,
}

impl From<Exception> for End {
    fn from(exception: Exception) -> Self {
        Self::Refused(exception)
    }
}

impl From<Gone> for End {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

fn refusal(text: String) -> End {
    End::Refused(Exception::parse(&text))
}

/// Runs `request` and answers it.
pub(crate) fn execute(
    engine: &Arc<Engine>,
    request: &Request,
    body: impl Read,
    mut responder: Responder,
    progress: &Arc<Progress>,
) {
    let outcome = run(engine, request, body, &mut responder, progress);
    progress.ended.store(true, Ordering::Release);
    let sent = match outcome {
        Ok(figures) => responder.finish(figures),
        Err(End::Refused(exception)) => {
            tracing::debug!(code = exception.code, "a query was refused");
            responder.fail(&exception)
        }
        Err(End::Gone) => Err(Gone),
    };
    if sent.is_err() {
        tracing::debug!("a client left before its answer");
    }
}

fn run(
    engine: &Arc<Engine>,
    request: &Request,
    body: impl Read,
    responder: &mut Responder,
    progress: &Arc<Progress>,
) -> Result<Figures, End> {
    let mut connection = engine.connect()?;
    // The database first: under `readonly` the session may not change.
    if let Some(database) = &request.database {
        connection.query(&format!("USE {}", identifier(database)), "Null", &[]).map_err(refusal)?;
    }
    if let Some(set) = request.set_statement()? {
        connection.query(&set, "Null", &[]).map_err(refusal)?;
    }

    let mut input = unpacked(request, body).map_err(|error| unreadable(&error))?;
    let mut text = request.query.clone().into_bytes();
    if !text.is_empty() {
        text.push(b'\n');
    }
    let mut piece = vec![0; PIECE_BYTES];
    let mut complete = false;
    loop {
        match sql::shape(&text, complete) {
            Shape::InsertData { statement_end, format, data_at } => {
                let (head, data) = text.split_at(data_at.min(text.len()));
                let statement = utf8(head.get(..statement_end).unwrap_or_default())?;
                let target = Target { statement, format: &format };
                return insert(&mut connection, &target, request, data, input, &mut piece);
            }
            Shape::Other if complete => break,
            Shape::Other | Shape::Incomplete => {
                let read = fill(&mut input, &mut piece).map_err(|error| unreadable(&error))?;
                complete = read < piece.len();
                text.extend_from_slice(piece.get(..read).unwrap_or_default());
                if text.len() > MAX_QUERY_BYTES {
                    let limit = format!("the query is longer than {MAX_QUERY_BYTES} bytes");
                    return Err(Exception::new(SYNTAX_ERROR, &limit).into());
                }
            }
        }
    }
    query(engine, &mut connection, request, utf8(&text)?, responder, progress)
}

fn utf8(text: &[u8]) -> Result<&str, Exception> {
    std::str::from_utf8(text)
        .map_err(|_| Exception::new(BAD_ARGUMENTS, "the query's text is not UTF-8"))
}

/// The body without its packing.
fn unpacked<'a>(request: &Request, body: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let body: Box<dyn Read + 'a> = match request.body_encoding {
        Some(encoding) => encoding.reader(body)?,
        None => Box::new(body),
    };
    Ok(if request.decompress { Box::new(BlockReader::new(body)) } else { body })
}

fn unreadable(error: &io::Error) -> Exception {
    let kind = if error.kind() == io::ErrorKind::ConnectionAborted {
        NETWORK_ERROR
    } else {
        CANNOT_DECOMPRESS
    };
    Exception::new(kind, &format!("cannot read the request's body: {error}"))
}

/// Reads until `buffer` is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match input.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

struct Target<'a> {
    statement: &'a str,
    format: &'a str,
}

/// Feeds the data to the engine as it comes. A body that breaks off cancels the insert.
fn insert(
    connection: &mut Connection,
    target: &Target<'_>,
    request: &Request,
    data: &[u8],
    mut input: impl Read,
    piece: &mut [u8],
) -> Result<Figures, End> {
    if !target.format.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        let message = format!("Unknown format {}", target.format);
        return Err(Exception::new(UNKNOWN_FORMAT, &message).into());
    }
    let mut insert =
        connection.insert(target.statement, target.format, &request.params).map_err(refusal)?;
    let mut going = insert.append(data);
    while going {
        let read = fill(&mut input, piece).map_err(|error| unreadable(&error))?;
        let data = piece.get(..read).unwrap_or_default();
        going = insert.append(data) && read == piece.len();
    }
    Ok(insert.finish().map_err(refusal)?.figures())
}

fn query(
    engine: &Arc<Engine>,
    connection: &mut Connection,
    request: &Request,
    sql: &str,
    responder: &mut Responder,
    progress: &Arc<Progress>,
) -> Result<Figures, End> {
    let tail = sql::tail(sql);
    if tail.uses_client_file {
        let message = "INTO OUTFILE and FROM INFILE are not allowed over HTTP";
        return Err(Exception::new(INTO_OUTFILE_NOT_ALLOWED, message).into());
    }
    if tail.reads_input {
        let message = "input() is not supported by the embedded engine: insert the data as it is";
        return Err(Exception::new(NOT_IMPLEMENTED, message).into());
    }
    let class = match connection.classify(sql) {
        (0, _) => return Err(refusal(connection.explain_refusal(sql))),
        (1, class) => class,
        _ => {
            let message = "Syntax error (Multi-statements are not allowed)";
            return Err(Exception::new(SYNTAX_ERROR, message).into());
        }
    };
    if request.read_only && class != Class::ReadOnly {
        // The engine's own `readonly` lets statements such as KILL QUERY pass.
        let message = "Cannot execute query in readonly mode: a GET changes nothing, send a POST";
        return Err(Exception::new(READONLY, message).into());
    }
    let default = request.default_format.as_deref().unwrap_or("TabSeparated");
    let format = tail.format.map_or(default, |(_, name)| name);
    responder.set_format(format);
    // What we make of the text must parse as well; were our reading of it wrong, the engine gets
    // what the client sent.
    if class == Class::ReadOnly {
        progress.may_be_killed.store(true, Ordering::Release);
        if tail.selects {
            let (reader, writer) = pipe()?;
            let sql = piped(sql, &tail, default, writer.as_raw_fd(), &progress.mark);
            if connection.classify(&sql).0 == 1 {
                let piped = Piped { sql, default, reader, writer };
                return select(engine, connection, request, piped, responder, progress);
            }
        }
    }
    let marked = format!("{}\n/* {} */", sql.get(..tail.end).unwrap_or(sql), progress.mark);
    let sent = if connection.classify(&marked) == (1, class) { &marked } else { sql };
    let answer = connection.query(sent, default, &request.params).map_err(refusal)?;
    responder.write(answer.bytes())?;
    Ok(answer.figures())
}

fn pipe() -> Result<(PipeReader, PipeWriter), Exception> {
    let (reader, writer) = io::pipe().map_err(|error| no_pipe(&error))?;
    if rustix::pipe::fcntl_setpipe_size(&writer, PIECE_BYTES).is_err() {
        tracing::trace!("pipes stay small on this system");
    }
    Ok((reader, writer))
}

fn no_pipe(error: &io::Error) -> Exception {
    Exception::new(CANNOT_SCHEDULE_TASK, &format!("cannot pipe the result: {error}"))
}

/// The SELECT that writes its result to descriptor `fd`, with the mark by which to find it.
fn piped(sql: &str, tail: &Tail<'_>, default: &str, fd: i32, mark: &str) -> String {
    let statement = sql.get(..tail.end).unwrap_or(sql);
    let at = tail.format.map_or(statement.len(), |(at, _)| at.min(statement.len()));
    let (body, format) = statement.split_at(at);
    let outfile = format!("INTO OUTFILE '/proc/self/fd/{fd}' APPEND");
    if format.is_empty() {
        return format!("{body}\n{outfile} FORMAT {default}\n/* {mark} */");
    }
    format!("{body}\n{outfile}\n{format}\n/* {mark} */")
}

/// A SELECT and the pipe that it writes to.
struct Piped<'a> {
    sql: String,
    default: &'a str,
    reader: PipeReader,
    writer: PipeWriter,
}

/// Runs a SELECT through a pipe, so that its result never stands in memory.
fn select(
    engine: &Arc<Engine>,
    connection: &mut Connection,
    request: &Request,
    piped: Piped<'_>,
    responder: &mut Responder,
    progress: &Arc<Progress>,
) -> Result<Figures, End> {
    let Piped { sql, default, mut reader, writer } = piped;
    std::thread::scope(|scope| {
        let query = std::thread::Builder::new()
            .name("query".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, move || {
                let answer = connection.query(&sql, default, &request.params);
                // The engine has opened the pipe anew and closed it; this was the last writer.
                drop(writer);
                answer.map(|answer| answer.figures())
            })
            .map_err(|error| no_pipe(&error))?;
        let mut buffer = vec![0; PIECE_BYTES];
        let sent = loop {
            match reader.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(read) => {
                    if let Err(gone) = responder.write(buffer.get(..read).unwrap_or_default()) {
                        break Err(End::from(gone));
                    }
                }
                Err(error) => break Err(no_pipe(&error).into()),
            }
        };
        // Nobody reads any more: a query that goes on writing fails at its next write.
        drop(reader);
        if sent.is_err() {
            kill_in_background(engine, progress);
        }
        let answer = query.join().map_err(|_| {
            Exception::new((1002, "UNKNOWN_EXCEPTION"), "the query's thread panicked")
        })?;
        sent?;
        answer.map_err(refusal)
    })
}

/// Kills the query of `progress` until it has ended.
pub(crate) fn kill_in_background(engine: &Arc<Engine>, progress: &Arc<Progress>) {
    let (engine, progress) = (Arc::clone(engine), Arc::clone(progress));
    let spawned = std::thread::Builder::new()
        .name("kill".to_owned())
        .spawn(move || engine.kill_until(&progress.mark, &progress.ended));
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot kill an abandoned query");
    }
}
