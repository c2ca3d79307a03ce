//! The real engine behind the real server, in a process of its own.
//!
//! Without libchdb these tests fail where `CI` is set, and are skipped with a loud line elsewhere.

#[path = "engine/host.rs"]
mod host;
#[path = "engine/http.rs"]
mod http;

#[path = "engine/clients.rs"]
mod clients;
#[path = "engine/inserts.rs"]
mod inserts;
#[path = "engine/lifetime.rs"]
mod lifetime;
#[path = "engine/queries.rs"]
mod queries;
