//! The real engine behind the real server, in a process of its own.
//!
//! Without libchdb these tests fail where `CI` is set, and are skipped with a loud line elsewhere.

#[cfg(test)]
#[path = "engine/host.rs"]
mod host;
#[cfg(test)]
#[path = "engine/http.rs"]
mod http;

#[cfg(test)]
#[path = "engine/clients.rs"]
mod clients;
#[cfg(test)]
#[path = "engine/inserts.rs"]
mod inserts;
#[cfg(test)]
#[path = "engine/lifetime.rs"]
mod lifetime;
#[cfg(test)]
#[path = "engine/queries.rs"]
mod queries;
