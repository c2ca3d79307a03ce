//! The C calls of libchdb that Tailwater needs, loaded at run time.
//!
//! There is no header in the package; the shapes are those of `programs/local/chdb.h` of chdb-core
//! 26.7. Nothing else in the project may call the engine, and the library is never unloaded: its
//! threads run until the process ends.

#![expect(unsafe_code, reason = "a C library has no safe interface")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::NonNull;

/// What a call gives back when it fails: the engine's own text.
pub(crate) type Refusal = String;

#[repr(C)]
struct RawConnection {
    _internal: *mut c_void,
}

#[repr(C)]
struct RawResult {
    _internal: *mut c_void,
}

#[repr(C)]
struct RawInsert {
    _internal: *mut c_void,
}

#[repr(C)]
struct Analysis {
    struct_size: u32,
    statement_count: u32,
    flags: u32,
    query_class: u32,
}

type QueryWithParams = unsafe extern "C" fn(
    connection: *mut RawConnection,
    query: *const c_char,
    query_len: usize,
    format: *const c_char,
    format_len: usize,
    names: *const *const c_char,
    name_lens: *const usize,
    values: *const *const c_char,
    value_lens: *const usize,
    count: usize,
) -> *mut RawResult;

type InsertWithParams = unsafe extern "C" fn(
    connection: *mut RawConnection,
    query: *const c_char,
    query_len: usize,
    format: *const c_char,
    format_len: usize,
    names: *const *const c_char,
    name_lens: *const usize,
    values: *const *const c_char,
    value_lens: *const usize,
    count: usize,
) -> *mut RawInsert;

/// The calls, resolved once.
pub(crate) struct Api {
    connect: unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut *mut RawConnection,
    close: unsafe extern "C" fn(*mut *mut RawConnection),
    query: QueryWithParams,
    stream_query: QueryWithParams,
    stream_cancel: unsafe extern "C" fn(*mut RawConnection, *mut RawResult),
    classify: unsafe extern "C" fn(
        *mut RawConnection,
        *const c_char,
        usize,
        *const c_char,
        usize,
        *mut Analysis,
    ) -> c_int,
    insert: InsertWithParams,
    insert_append: unsafe extern "C" fn(*mut RawInsert, *const c_void, usize) -> c_int,
    insert_done: unsafe extern "C" fn(*mut RawInsert) -> *mut RawResult,
    insert_cancel: unsafe extern "C" fn(*mut RawInsert),
    insert_error: unsafe extern "C" fn(*mut RawInsert) -> *const c_char,
    insert_destroy: unsafe extern "C" fn(*mut RawInsert),
    result_buffer: unsafe extern "C" fn(*mut RawResult) -> *const c_char,
    result_length: unsafe extern "C" fn(*mut RawResult) -> usize,
    result_error: unsafe extern "C" fn(*mut RawResult) -> *const c_char,
    result_rows: unsafe extern "C" fn(*mut RawResult) -> u64,
    result_bytes: unsafe extern "C" fn(*mut RawResult) -> u64,
    result_rows_read: unsafe extern "C" fn(*mut RawResult) -> u64,
    result_bytes_read: unsafe extern "C" fn(*mut RawResult) -> u64,
    result_rows_written: unsafe extern "C" fn(*mut RawResult) -> u64,
    result_bytes_written: unsafe extern "C" fn(*mut RawResult) -> u64,
    result_destroy: unsafe extern "C" fn(*mut RawResult),
}

impl Api {
    /// Loads the library at `path` and turns its signal handlers off.
    ///
    /// # Errors
    ///
    /// When the file cannot be loaded, or lacks a call: it is no libchdb, or too old.
    pub(crate) fn load(path: &Path) -> Result<&'static Self, libloading::Error> {
        // SAFETY: running a library's initialisers is what loading means; the file is the one that
        // the user named or that was checked against its digest. The types of the symbols are
        // those of the engine's header. The library is leaked, so that they stay valid for ever.
        unsafe {
            let library: &'static libloading::Library =
                Box::leak(Box::new(libloading::Library::new(path)?));
            let no_signal_handlers: unsafe extern "C" fn(c_int) =
                *library.get(c"chdb_set_signal_handlers_enabled")?;
            no_signal_handlers(0);
            Ok(Box::leak(Box::new(Self {
                connect: *library.get(c"chdb_connect")?,
                close: *library.get(c"chdb_close_conn")?,
                query: *library.get(c"chdb_query_with_params_n")?,
                stream_query: *library.get(c"chdb_stream_query_with_params_n")?,
                stream_cancel: *library.get(c"chdb_stream_cancel_query")?,
                classify: *library.get(c"chdb_classify_query_n")?,
                insert: *library.get(c"chdb_stream_insert_with_params_n")?,
                insert_append: *library.get(c"chdb_stream_append")?,
                insert_done: *library.get(c"chdb_stream_done")?,
                insert_cancel: *library.get(c"chdb_stream_cancel_insert")?,
                insert_error: *library.get(c"chdb_stream_insert_error")?,
                insert_destroy: *library.get(c"chdb_destroy_insert_stream")?,
                result_buffer: *library.get(c"chdb_result_buffer")?,
                result_length: *library.get(c"chdb_result_length")?,
                result_error: *library.get(c"chdb_result_error")?,
                result_rows: *library.get(c"chdb_result_rows_read")?,
                result_bytes: *library.get(c"chdb_result_bytes_read")?,
                result_rows_read: *library.get(c"chdb_result_storage_rows_read")?,
                result_bytes_read: *library.get(c"chdb_result_storage_bytes_read")?,
                result_rows_written: *library.get(c"chdb_result_rows_written")?,
                result_bytes_written: *library.get(c"chdb_result_bytes_written")?,
                result_destroy: *library.get(c"chdb_destroy_query_result")?,
            })))
        }
    }

    /// Opens a connection to the engine over `folder`; the first one starts the engine.
    ///
    /// `None`: the engine refused, and said why only in its log on stderr.
    pub(crate) fn connect(&'static self, folder: &CStr) -> Option<Connection> {
        let mut path = b"--path=".to_vec();
        path.extend_from_slice(folder.to_bytes());
        let arguments = [c"tailwater".to_owned(), CString::new(path).ok()?];
        let mut pointers: Vec<*mut c_char> =
            arguments.iter().map(|text| text.as_ptr().cast_mut()).collect();
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `pointers` holds `count` strings that end in NUL and outlive the call, which
        // copies them.
        let handle = NonNull::new(unsafe { (self.connect)(count, pointers.as_mut_ptr()) })?;
        // SAFETY: a handle that is not null points to the connection.
        NonNull::new(unsafe { *handle.as_ptr() })?;
        Some(Connection { api: self, handle })
    }
}

/// What a statement does, as the engine's own parser sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Leaves no trace.
    ReadOnly,
    /// Changes data, definitions, the session or the server.
    Changes,
}

/// One connection: its own settings, database and parameters. It runs one statement at a time.
pub(crate) struct Connection {
    api: &'static Api,
    handle: NonNull<*mut RawConnection>,
}

// SAFETY: the engine guards a connection by a mutex of its own and ties nothing to a thread.
unsafe impl Send for Connection {}

/// Names and values of `{name:Type}` parameters.
pub(crate) type Params = [(String, String)];

struct ParamPointers {
    names: Vec<*const c_char>,
    name_lens: Vec<usize>,
    values: Vec<*const c_char>,
    value_lens: Vec<usize>,
}

impl ParamPointers {
    fn new(params: &Params) -> Self {
        Self {
            names: params.iter().map(|(name, _)| name.as_ptr().cast()).collect(),
            name_lens: params.iter().map(|(name, _)| name.len()).collect(),
            values: params.iter().map(|(_, value)| value.as_ptr().cast()).collect(),
            value_lens: params.iter().map(|(_, value)| value.len()).collect(),
        }
    }
}

impl Connection {
    fn raw(&self) -> *mut RawConnection {
        // SAFETY: the handle is valid until `drop`.
        unsafe { *self.handle.as_ptr() }
    }

    /// Says how many statements `sql` holds and what they do, without running them. No statement
    /// means that the text does not parse.
    pub(crate) fn classify(&self, sql: &str) -> (u32, Class) {
        let mut analysis = Analysis {
            struct_size: u32::try_from(size_of::<Analysis>()).unwrap_or(0),
            statement_count: 0,
            flags: 0,
            query_class: u32::MAX,
        };
        // SAFETY: text and report outlive the call; a null database is allowed.
        let state = unsafe {
            (self.api.classify)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                std::ptr::null(),
                0,
                &raw mut analysis,
            )
        };
        let class =
            if state == 0 && analysis.query_class == 0 { Class::ReadOnly } else { Class::Changes };
        (analysis.statement_count, class)
    }

    /// Runs one statement and holds all of its output.
    ///
    /// # Errors
    ///
    /// The engine's text, as `Code: 60. DB::Exception: …`.
    pub(crate) fn query(
        &self,
        sql: &str,
        format: &str,
        params: &Params,
    ) -> Result<Answer, Refusal> {
        let pointers = ParamPointers::new(params);
        // SAFETY: the texts and arrays outlive the call, and the lengths are theirs.
        let result = unsafe {
            (self.api.query)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                pointers.names.as_ptr(),
                pointers.name_lens.as_ptr(),
                pointers.values.as_ptr(),
                pointers.value_lens.as_ptr(),
                params.len(),
            )
        };
        Answer::checked(self.api, result)
    }

    /// Why `sql` does not parse. Unlike [`Self::query`] this runs no part of several statements.
    pub(crate) fn explain_refusal(&self, sql: &str) -> Refusal {
        let empty = ParamPointers::new(&[]);
        // SAFETY: as in `query`; a stream that did start is cancelled before it is dropped.
        unsafe {
            let result = (self.api.stream_query)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                c"Null".as_ptr(),
                4,
                empty.names.as_ptr(),
                empty.name_lens.as_ptr(),
                empty.values.as_ptr(),
                empty.value_lens.as_ptr(),
                0,
            );
            match Answer::checked(self.api, result) {
                Err(refusal) => refusal,
                Ok(answer) => {
                    (self.api.stream_cancel)(self.raw(), answer.result.as_ptr());
                    "Code: 62. DB::Exception: Syntax error: the statement cannot be parsed. (SYNTAX_ERROR)"
                        .to_owned()
                }
            }
        }
    }

    /// Begins an insert; `sql` is the statement up to its data, without `FORMAT`.
    ///
    /// # Errors
    ///
    /// The engine's text.
    pub(crate) fn insert(
        &mut self,
        sql: &str,
        format: &str,
        params: &Params,
    ) -> Result<Insert<'_>, Refusal> {
        let pointers = ParamPointers::new(params);
        // SAFETY: as in `query`; the handle is never null, and belongs to `Insert` from here on.
        let raw = unsafe {
            (self.api.insert)(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                pointers.names.as_ptr(),
                pointers.name_lens.as_ptr(),
                pointers.values.as_ptr(),
                pointers.value_lens.as_ptr(),
                params.len(),
            )
        };
        let raw = NonNull::new(raw).ok_or_else(|| "the engine gave no insert stream".to_owned())?;
        let insert = Insert { connection: self, raw };
        match insert.error() {
            None => Ok(insert),
            Some(refusal) => Err(refusal),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the handle is valid and used no more.
        unsafe { (self.api.close)(self.handle.as_ptr()) }
    }
}

/// A running insert. Dropped before [`Insert::finish`], it is cancelled: what was not yet written
/// as a block is not written.
pub(crate) struct Insert<'a> {
    connection: &'a mut Connection,
    raw: NonNull<RawInsert>,
}

impl Insert<'_> {
    fn error(&self) -> Option<Refusal> {
        // SAFETY: the handle is valid; the text belongs to it.
        unsafe { text((self.connection.api.insert_error)(self.raw.as_ptr())) }
    }

    /// Hands a piece of data to the engine, which copies it; waits while the engine is behind.
    /// `false`: the insert has failed, and [`Insert::finish`] says why.
    pub(crate) fn append(&mut self, data: &[u8]) -> bool {
        // SAFETY: handle and data are valid for the call.
        let state = unsafe {
            (self.connection.api.insert_append)(self.raw.as_ptr(), data.as_ptr().cast(), data.len())
        };
        state == 0
    }

    /// Ends the data and waits until it is written.
    ///
    /// # Errors
    ///
    /// The engine's text.
    pub(crate) fn finish(self) -> Result<Answer, Refusal> {
        // SAFETY: the handle is valid; `drop` frees it afterwards.
        let result = unsafe { (self.connection.api.insert_done)(self.raw.as_ptr()) };
        Answer::checked(self.connection.api, result)
    }
}

impl Drop for Insert<'_> {
    fn drop(&mut self) {
        // SAFETY: cancelling does nothing after `finish`; then the handle is freed, once.
        unsafe {
            (self.connection.api.insert_cancel)(self.raw.as_ptr());
            (self.connection.api.insert_destroy)(self.raw.as_ptr());
        }
    }
}

/// Output and figures of a statement.
pub(crate) struct Answer {
    api: &'static Api,
    result: NonNull<RawResult>,
}

// SAFETY: a result is plain memory of its own.
unsafe impl Send for Answer {}

impl Answer {
    fn checked(api: &'static Api, result: *mut RawResult) -> Result<Self, Refusal> {
        let result = NonNull::new(result).ok_or_else(|| "the engine gave no result".to_owned())?;
        let answer = Self { api, result };
        // SAFETY: the result is valid until `drop`.
        match unsafe { text((api.result_error)(result.as_ptr())) } {
            None => Ok(answer),
            Some(refusal) => Err(refusal),
        }
    }

    /// The output.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the engine's buffer has this length and lives as long as the result.
        unsafe {
            let buffer = (self.api.result_buffer)(self.result.as_ptr());
            if buffer.is_null() {
                return &[];
            }
            std::slice::from_raw_parts(
                buffer.cast(),
                (self.api.result_length)(self.result.as_ptr()),
            )
        }
    }

    /// What was read and written.
    pub(crate) fn figures(&self) -> Figures {
        let result = self.result.as_ptr();
        // SAFETY: the result is valid.
        unsafe {
            Figures {
                result_rows: (self.api.result_rows)(result),
                result_bytes: (self.api.result_bytes)(result),
                read_rows: (self.api.result_rows_read)(result),
                read_bytes: (self.api.result_bytes_read)(result),
                written_rows: (self.api.result_rows_written)(result),
                written_bytes: (self.api.result_bytes_written)(result),
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: the result is valid and used no more.
        unsafe { (self.api.result_destroy)(self.result.as_ptr()) }
    }
}

/// Rows and bytes of one statement. Written ones include those of views, and say nothing of
/// whether a deduplicated block was kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) result_rows: u64,
    pub(crate) result_bytes: u64,
    pub(crate) read_rows: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_rows: u64,
    pub(crate) written_bytes: u64,
}

/// # Safety
///
/// `pointer` is null or a string that ends in NUL and lives through the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by the contract above.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

/// Ends the process at once: no destructor of the engine runs, which would race its threads.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no memory and does not come back.
    unsafe { libc::_exit(code) }
}
