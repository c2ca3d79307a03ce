//! Reader: one change stream, opened, read, repaired and reopened for ever.
//!
//! It hands on the server's events in order, never skips one and never gives one twice. It ends only
//! with an error that an operator must mend.

use std::cmp::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tailwater_core::event::ChangeEvent;
use tailwater_core::position::LaneId;
use tailwater_core::{Action, Error, ErrorKind, Result};
use tailwater_pipeline::budget::{Budget, ENCODED_FACTOR, Share};
use tailwater_pipeline::retry::Backoff;
use tailwater_pipeline::vitals::Vitals;
use tracing::{debug, info, warn};

use crate::Server;
use crate::bookmark::{Bookmark, Place};
use crate::classify::{Failure, Meaning, Phase};
use crate::history;
use crate::repair::Overlap;
use crate::reply::{Answer, Fragments, token};
use crate::request::{Cursor, Pace, Request};

/// A getMore that is not answered by now sits on a dead connection, or on a slow one: then the next
/// gets twice as long, and asks for less.
const SILENCE: Duration = Duration::from_secs(30);
/// No getMore gets longer.
const LONGEST_SILENCE: Duration = Duration::from_secs(480);
/// A reply holds no more, but for a single event that is larger.
const FULL_REPLY: usize = 16 << 20;

/// What one answer of the server brought.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The events, in order.
    pub(crate) events: Vec<ChangeEvent>,
    /// Where the stream goes on behind this reply.
    pub(crate) after: Bookmark,
    /// The shares of the memory budget that the reply holds.
    pub(crate) shares: Vec<Share>,
}

/// An open or reopenable change stream.
#[derive(Debug)]
pub(crate) struct Reader {
    server: Server,
    lane: LaneId,
    request: Request,
    budget: Budget,
    vitals: Vitals,
    at: Bookmark,
    cursor: Option<Cursor>,
    /// Where the last cursor was opened.
    opened_at: Option<Place>,
    /// `Reopen`, once the stream was open.
    opening: Phase,
    overlap: Option<Overlap>,
    fragments: Fragments,
    /// The shares that pending fragments hold.
    held: Vec<Share>,
    /// What the next reply may come to, of the budget: as much as the last one.
    expected: usize,
    pace: Pace,
    /// The bytes of events that came since the pace is not full.
    slowly: usize,
    /// How long an answer is waited for.
    patience: Duration,
    backoff: Backoff,
}

impl Reader {
    pub(crate) fn new(
        server: Server,
        lane: LaneId,
        request: Request,
        at: Bookmark,
        budget: Budget,
        vitals: Vitals,
    ) -> Self {
        Self {
            server,
            lane,
            request,
            budget,
            vitals,
            at,
            cursor: None,
            opened_at: None,
            opening: Phase::Open,
            overlap: None,
            fragments: Fragments::default(),
            held: Vec::new(),
            expected: FULL_REPLY * ENCODED_FACTOR,
            pace: Pace::Full,
            slowly: 0,
            patience: SILENCE,
            backoff: Backoff::new(),
        }
    }

    /// The next reply, however long the server is away.
    ///
    /// # Cancel safety
    /// Dropping the future may lose a reply; seek again before reading on.
    pub(crate) async fn next(&mut self) -> Result<Reply> {
        loop {
            let failure = match self.try_next().await {
                Ok(Some(reply)) => {
                    if self.backoff.attempts() > 0 {
                        info!(stream = %self.lane, "reading again");
                        self.backoff = Backoff::new();
                    }
                    return Ok(reply);
                }
                Ok(None) => {
                    debug!(stream = %self.lane, "closed by the server, opening it again");
                    continue;
                }
                Err(failure) => failure,
            };
            self.close();
            let error = match failure.meaning {
                Meaning::TokenRefused => match self.repair(failure.error).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
                Meaning::TooLarge if self.pace != Pace::OneByOne => {
                    // So that everything before it is read, and the position lies right before it.
                    debug!(stream = %self.lane, "too large an answer, reading one by one");
                    self.pace = Pace::OneByOne;
                    self.slowly = 0;
                    continue;
                }
                Meaning::TooLarge => history::too_large(&self.lane, &self.at.place, &failure.error),
                Meaning::HistoryLost => {
                    let oldest = self.server.oldest().await.ok();
                    history::lost(&self.lane, &self.at.place, oldest, failure.error)
                }
                Meaning::Other => failure.error,
            };
            if error.kind().action() != Action::Retry {
                return Err(error);
            }
            self.vitals.read_failed(&self.lane);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            warn!(stream = %self.lane, %error, cause, "read failed, trying again");
            self.backoff.pause().await;
        }
    }

    fn close(&mut self) {
        self.cursor = None;
        self.fragments.clear();
        self.held.clear();
    }

    /// One reply; `None` when the server closed the cursor, as it does behind an `invalidate`.
    async fn try_next(&mut self) -> Result<Option<Reply>, Failure> {
        // Waiting comes before asking: a reply that waited would be memory that nobody counts, and
        // a reader that holds the first part of an event must not wait for what it holds itself.
        let mut share = match self.held.is_empty() {
            true => self.budget.take(self.expected).await,
            false => self.budget.nothing(),
        };
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => self.open().await?,
        };
        let Ok(next) = tokio::time::timeout(self.patience, cursor.next()).await else {
            return Err(self.fall_silent().into());
        };
        let Some(batch) = next else {
            self.close();
            return Ok(None);
        };
        let batch = batch.map_err(|error| {
            let what = format!("cannot read the change stream of `{}`", self.lane);
            Failure::of(&error, Phase::Read, &what)
        })?;
        self.cursor = Some(cursor);
        let bytes = batch.as_raw_document().as_bytes();
        let answer = Answer::unpack(Bytes::copy_from_slice(bytes))?;
        // A quiet stream asks again and again, and must not hold what the busy ones need.
        self.expected = match answer.events.is_empty() {
            true => 0,
            false => bytes.len().saturating_mul(ENCODED_FACTOR),
        };
        share.resize(self.expected);
        self.held.push(share);
        Ok(Some(self.take(answer)?))
    }

    /// Opens the stream where it goes on, if that is a place in this cluster's history.
    async fn open(&mut self) -> Result<Cursor, Failure> {
        let clock = self.server.clock(self.opening).await?;
        history::check(&self.lane, &self.at, &clock)?;
        self.at.replica_set = self.at.replica_set.or(clock.replica_set);
        let place = match &self.overlap {
            Some(overlap) => overlap.start()?,
            None => self.at.place.clone(),
        };
        self.opened_at = Some(place.clone());
        let cursor = open(&self.server, &self.request, &place, self.pace, self.opening).await?;
        self.opening = Phase::Reopen;
        Ok(cursor)
    }

    /// Reads the events of an answer, and moves behind them.
    fn take(&mut self, answer: Answer) -> Result<Reply> {
        let quiet = answer.events.is_empty();
        let mut events = Vec::with_capacity(answer.events.len());
        if self.pace != Pace::Full {
            self.slowly += answer.events.iter().map(Bytes::len).sum::<usize>();
        }
        for bytes in answer.events {
            let Some(bytes) = self.fragments.take(bytes)? else { continue };
            let event = self.request.read(bytes)?;
            if let Some(overlap) = &self.overlap {
                if overlap.place(event.token_data())? != Ordering::Greater {
                    continue;
                }
                self.overlap = None;
            }
            events.push(event);
        }
        // The last event's own token, not the post-batch token, goes with events: it is the one that
        // closes an invalidated stream.
        if let Some(last) = events.last() {
            self.move_to(Place::After(token(last.token())?));
        } else if quiet && !self.fragments.are_pending() {
            self.be_quiet(answer.post_batch_token)?;
        }
        self.vitals.heard(&self.lane, events.len() as u64);
        let shares = match self.fragments.are_pending() {
            true => Vec::new(),
            false => std::mem::take(&mut self.held),
        };
        // The reply that failed would not have held more: what was too large is passed.
        if self.slowly > FULL_REPLY && !self.fragments.are_pending() {
            self.at_full_pace();
        }
        Ok(Reply { events, after: self.at.clone(), shares })
    }

    /// Nothing came: the stream is where the server has looked up to.
    fn be_quiet(&mut self, post_batch_token: Option<bson::RawDocumentBuf>) -> Result<()> {
        if self.pace != Pace::Full {
            self.at_full_pace();
        }
        self.patience = SILENCE;
        let Some(token) = post_batch_token else { return Ok(()) };
        if let Some(overlap) = &self.overlap {
            // Only past the overlap is it sure that what comes is new.
            let data = token.get_str("_data").unwrap_or_default();
            if overlap.place(data.as_bytes())? != Ordering::Greater {
                return Ok(());
            }
            self.overlap = None;
        }
        self.move_to(Place::After(token));
        Ok(())
    }

    fn at_full_pace(&mut self) {
        self.pace = Pace::Full;
        self.slowly = 0;
        self.close();
    }

    /// No answer came in time.
    fn fall_silent(&mut self) -> Error {
        if self.pace == Pace::Full {
            self.pace = Pace::Few;
            self.slowly = 0;
        }
        let waited = self.patience.as_secs();
        self.patience = (self.patience * 2).min(LONGEST_SILENCE);
        let what = format!("no answer to the change stream of `{}` for {waited} s", self.lane);
        Error::new(ErrorKind::Unreachable, what)
    }

    fn move_to(&mut self, place: Place) {
        self.at.place = place;
        self.at.operations.clone_from(&self.request.operations);
    }

    /// Finds out how to go on where the server refused the token.
    async fn repair(&mut self, refusal: Error) -> Result<()> {
        if self.overlap.is_some() {
            return Err(refusal);
        }
        if self.opened_at.as_ref() != Some(&self.at.place) {
            // It refused an earlier token, and has since told a later one.
            return Ok(());
        }
        let overlap = Overlap::of(&self.at.place, &self.request.entry())?;
        if overlap.ends_with_event()? && !self.find(&overlap).await? {
            return Err(refusal);
        }
        info!(stream = %self.lane, "going on from the time of the last resume token");
        self.overlap = Some(overlap);
        Ok(())
    }

    /// Looks for the event at the end of an overlap, in a stream that lists what it was read with.
    async fn find(&mut self, overlap: &Overlap) -> Result<bool> {
        let request = self.request.listing(self.at.operations.clone());
        let failed = |failure: Failure| failure.error;
        let start = overlap.start()?;
        let mut cursor =
            open(&self.server, &request, &start, self.pace, self.opening).await.map_err(failed)?;
        let mut fragments = Fragments::default();
        loop {
            let next = tokio::time::timeout(self.patience, cursor.next()).await.map_err(|_| {
                let what = format!("no answer to the change stream of `{}`", self.lane);
                Error::new(ErrorKind::Unreachable, what)
            })?;
            // Its collection ended behind that time, and the event had not come.
            let Some(batch) = next else { return Ok(false) };
            let batch = batch.map_err(|error| {
                let what = format!("cannot read the change stream of `{}`", self.lane);
                Failure::of(&error, Phase::Read, &what).error
            })?;
            let bytes = Bytes::copy_from_slice(batch.as_raw_document().as_bytes());
            let answer = Answer::unpack(bytes)?;
            let quiet = answer.events.is_empty();
            for bytes in answer.events {
                let Some(bytes) = fragments.take(bytes)? else { continue };
                let event = ChangeEvent::index(bytes)?;
                match overlap.place(event.token_data())? {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(true),
                    Ordering::Greater => return Ok(false),
                }
            }
            let looked_up_to = answer.post_batch_token.filter(|_| quiet);
            if let Some(token) = looked_up_to {
                let data = token.get_str("_data").unwrap_or_default();
                if overlap.place(data.as_bytes())? == Ordering::Greater {
                    return Ok(false);
                }
            }
        }
    }
}

pub(crate) async fn open(
    server: &Server,
    request: &Request,
    place: &Place,
    pace: Pace,
    phase: Phase,
) -> Result<Cursor, Failure> {
    request.open(server, place, pace).await?.map_err(|error| {
        let what = format!("cannot open the change stream of `{}`", request.entry());
        Failure::of(&error, phase, &what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Timestamp, doc};
    use tailwater_core::scope::Scope;
    use tailwater_core::watch::Watch;

    /// A reader that has nothing to read from.
    async fn reader() -> Reader {
        let client = mongodb::Client::with_uri_str("mongodb://localhost:1").await.unwrap();
        let scope = Scope::Database("d".into());
        let all = [scope.clone()].into();
        let request = Request::new(scope, &all, &Watch::default(), &Default::default());
        let place = Place::At(Timestamp { time: 1, increment: 0 });
        let at = Bookmark { place, operations: None, reading: None, replica_set: None };
        let (lane, budget) = (LaneId::stream("d"), Budget::new(1 << 20));
        Reader::new(Server::unasked(client), lane, request, at, budget, Vitals::default())
    }

    fn inserted(bytes: usize) -> Answer {
        let event = doc! {
            "_id": { "_data": "826B03E054000000052B0229296E04" }, "operationType": "insert",
            "clusterTime": Timestamp { time: 1, increment: 1 },
            "ns": { "db": "d", "coll": "c" }, "documentKey": { "_id": 1 },
            "fullDocument": { "_id": 1, "pad": "x".repeat(bytes) },
        };
        Answer { events: vec![event.to_vec().unwrap().into()], post_batch_token: None }
    }

    #[tokio::test]
    async fn events_come_one_by_one_only_as_far_as_the_reply_that_failed() {
        let mut reader = reader().await;
        for _ in 0..2 {
            reader.pace = Pace::OneByOne;
            for expected in [Pace::OneByOne, Pace::OneByOne, Pace::Full, Pace::Full] {
                assert_eq!(reader.take(inserted(6_000_000)).unwrap().events.len(), 1);
                assert_eq!(reader.pace, expected);
            }
        }
        reader.pace = Pace::OneByOne;
        reader.take(Answer { events: Vec::new(), post_batch_token: None }).unwrap();
        assert_eq!(reader.pace, Pace::Full);
    }

    #[tokio::test]
    async fn a_slow_line_gets_more_time_and_smaller_answers_until_it_is_caught_up() {
        let mut reader = reader().await;
        let error = reader.fall_silent();
        assert!(error.to_string().ends_with("for 30 s"), "{error}");
        assert_eq!((reader.pace, reader.patience), (Pace::Few, 2 * SILENCE));
        for _ in 0..3 {
            reader.take(inserted(6_000_000)).unwrap();
        }
        assert_eq!((reader.pace, reader.patience), (Pace::Full, 2 * SILENCE));
        for _ in 0..9 {
            reader.fall_silent();
        }
        assert_eq!(reader.patience, LONGEST_SILENCE);
        reader.take(Answer { events: Vec::new(), post_batch_token: None }).unwrap();
        assert_eq!((reader.pace, reader.patience), (Pace::Full, SILENCE));
    }
}
