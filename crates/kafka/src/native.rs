//! What librdkafka can do and the `rdkafka` crate does not wrap, but for what `topic_id.rs` has: to
//! give any client a token, and to hear what is said to a client that has no poll of its own.

#![expect(unsafe_code, reason = "calls of librdkafka that have no safe wrapper")]

use std::ffi::{CStr, CString, c_char};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::bindings as rd;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer as _, ProducerContext};
use tailwater_core::{Error, ErrorKind, Result};

use crate::token::Token;

/// How long one look at what is said waits; so long a client may outlive its last user.
const LOOK: Duration = Duration::from_millis(250);
/// What librdkafka is told of a token without an end: ten years.
const NO_END_MS: i64 = 10 * 365 * 24 * 3600 * 1000;

/// What librdkafka takes in one piece from here on goes back to the system once it is freed. By itself
/// the C library keeps what is freed, per thread, and hundreds of megabytes of large records.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 << 10;

/// Lets the C library, from which librdkafka has its memory, keep less of what is freed. For the whole
/// process, once.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn keep_little() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: it takes two numbers, and one thread calls it.
    ONCE.call_once(|| unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    });
}

/// Other systems have other allocators.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_little() {}

/// Lets OpenSSL live as long as the process. By itself it cleans up when the process ends, while threads
/// of librdkafka still use it, and they crash. For the whole process, before the first client.
pub(crate) fn keep_openssl() {
    openssl_sys::init();
}

/// A client of librdkafka.
pub(crate) trait Native: Send + Sync + 'static {
    /// The client, which lives as long as this does.
    fn native(&self) -> *mut rd::rd_kafka_t;
}

impl<C: ConsumerContext + 'static> Native for BaseConsumer<C> {
    fn native(&self) -> *mut rd::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ProducerContext + 'static> Native for BaseProducer<C> {
    fn native(&self) -> *mut rd::rd_kafka_t {
        self.client().native_ptr()
    }
}

impl<C: ClientContext + 'static> Native for AdminClient<C> {
    fn native(&self) -> *mut rd::rd_kafka_t {
        self.inner().native_ptr()
    }
}

/// Gives a client the token that it signs in with from now on, and renews old sign-ins with.
///
/// # Errors
/// What librdkafka says: the token is over, or the client signs in otherwise.
pub(crate) fn set_token(client: &dyn Native, token: &Token) -> std::result::Result<(), String> {
    let words = [token.text(), token.principal.as_str()].map(CString::new);
    let [Ok(text), Ok(principal)] = words else {
        return Err("a token holds a zero byte".to_owned());
    };
    let end = token.expires_at.map_or_else(
        || tailwater_pipeline::clock::now().0.saturating_add(NO_END_MS),
        // librdkafka counts microseconds.
        |end| end.0.min(i64::MAX / 1000),
    );
    let mut said: [c_char; 256] = [0; 256];
    // SAFETY: the client is alive while `client` is borrowed. librdkafka copies both texts before it
    // returns; `said` is as long as it is told, and gets a zero byte at its end.
    let (code, said) = unsafe {
        let code = rd::rd_kafka_oauthbearer_set_token(
            client.native(),
            text.as_ptr(),
            end,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            said.as_mut_ptr(),
            said.len(),
        );
        (code, CStr::from_ptr(said.as_ptr()))
    };
    match code {
        rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        _ => Err(said.to_string_lossy().into_owned()),
    }
}

/// Starts a thread that hears what is said to an admin client, and tells its context, until the
/// client has no other user. Unheard, errors and log lines would heap up.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn hear_always<C>(admin: &Arc<AdminClient<C>>) -> Result<()>
where
    C: ClientContext + 'static,
{
    let weak: Weak<_> = Arc::downgrade(admin);
    let hear = move || {
        while let Some(admin) = weak.upgrade() {
            hear(&admin);
        }
    };
    let thread = std::thread::Builder::new().name("kafka-admin".to_owned()).spawn(hear);
    thread.map(drop).map_err(|error| {
        Error::new(ErrorKind::Storage, "the system gives no thread").with_source(error)
    })
}

/// Hears one thing, if any is said soon.
fn hear<C: ClientContext + 'static>(admin: &AdminClient<C>) {
    let millis = i32::try_from(LOOK.as_millis()).unwrap_or(i32::MAX);
    let context = admin.inner().context();
    // SAFETY: the client is alive while `admin` is borrowed. The queue and the event are destroyed
    // once each, after the last use of them and of the texts, which belong to the event.
    unsafe {
        let queue = rd::rd_kafka_queue_get_main(admin.native());
        let event = rd::rd_kafka_queue_poll(queue, millis);
        if !event.is_null() {
            match rd::rd_kafka_event_type(event) {
                rd::RD_KAFKA_EVENT_ERROR => {
                    let code = rd::rd_kafka_event_error(event);
                    let reason = text(rd::rd_kafka_event_error_string(event));
                    context.error(KafkaError::Global(code.into()), reason.trim());
                }
                rd::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line) = (std::ptr::null(), std::ptr::null());
                    let mut level = 0;
                    if rd::rd_kafka_event_log(
                        event,
                        &raw mut facility,
                        &raw mut line,
                        &raw mut level,
                    ) == 0
                    {
                        let level = log_level(level);
                        context.log(level, text(facility).trim(), text(line).trim());
                    }
                }
                _ => {}
            }
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_queue_destroy(queue);
    }
}

/// A text of librdkafka's.
///
/// # Safety
/// `text` must be null or end with a zero byte, and live as long as what is returned.
unsafe fn text<'t>(text: *const c_char) -> std::borrow::Cow<'t, str> {
    if text.is_null() {
        return "".into();
    }
    // SAFETY: as the function's.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

/// A level as syslog numbers it.
const fn log_level(level: i32) -> RDKafkaLogLevel {
    match level {
        0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tailwater_core::config::Client as Kind;

    use crate::client::Client;

    /// The exit codes of the process that looks at OpenSSL in its last moment.
    const ALIVE: i32 = 70;
    const CLEANED_UP: i32 = 71;

    extern "C" fn look() {
        // SAFETY: both take what they are given, and the second one ends the process.
        unsafe {
            let code = match openssl_sys::OPENSSL_init_ssl(0, std::ptr::null_mut()) {
                1 => ALIVE,
                _ => CLEANED_UP,
            };
            libc::_exit(code);
        }
    }

    #[test]
    fn openssl_is_there_until_the_process_is_gone() {
        const CHILD: &str = "TAILWATER_TEST_LOOKS_AT_OPENSSL";
        if std::env::var_os(CHILD).is_none() {
            let name = "native::tests::openssl_is_there_until_the_process_is_gone";
            let mut child = Command::new(std::env::current_exe().unwrap());
            let output = child.args(["--exact", name]).env(CHILD, "yes").output().unwrap();
            assert_eq!(output.status.code(), Some(ALIVE), "{output:?}");
            assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
            return;
        }
        // What is registered first runs last.
        // SAFETY: `look` is there as long as the process.
        assert_eq!(unsafe { libc::atexit(look) }, 0);
        let of_tls = vec![("security.protocol".to_owned(), "ssl".to_owned())];
        let client = Client::new("127.0.0.1:9", of_tls, None);
        let made = client
            .config(Kind::Admin)
            .create_with_context::<_, rdkafka::admin::AdminClient<_>>(client.context());
        made.unwrap();
    }
}
