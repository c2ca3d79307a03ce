//! History: whether a stream's place lies in the history of this cluster, and what to say where it
//! does not, or no longer.

use bson::Timestamp;
use bson::oid::ObjectId;
use tailwater_core::gap::{Gap, GapReason, Moment};
use tailwater_core::position::LaneId;
use tailwater_core::token::ClusterTime;
use tailwater_core::{Error, ErrorKind};

use crate::bookmark::{Bookmark, Place};

/// What a cluster says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Its present time; `None` where that is no measure, as behind a `mongos`.
    pub(crate) time: Option<Timestamp>,
    /// The replica set's own id; `None` where the server does not tell it.
    pub(crate) replica_set: Option<ObjectId>,
}

/// Refuses a place that this cluster never was at.
///
/// # Errors
/// `WrongHistory`, with what is known of both.
pub(crate) fn check(lane: &LaneId, at: &Bookmark, clock: &Clock) -> Result<(), Error> {
    let refuse = |why: String| {
        Err(Error::new(ErrorKind::WrongHistory, why).with_hint(
            "use the MongoDB of the last run; if it was restored or replaced for good, start again \
             as another `pipeline`, with new tables and, without a Kafka, a new state folder",
        ))
    };
    if let (Some(ours), Some(theirs)) = (at.replica_set, clock.replica_set)
        && ours != theirs
    {
        return refuse(format!(
            "the stream `{lane}` was read from another replica set: its id was {ours}, this one has \
             {theirs}"
        ));
    }
    if let (Some(place), Some(now)) = (at.place.time(), clock.time) {
        // A stream begins right behind the present, so that much ahead a place may be.
        let now = ClusterTime { seconds: now.time, increment: now.increment };
        if place.bits() > now.bits().saturating_add(1) {
            return refuse(format!(
                "the stream `{lane}` is at {}, and MongoDB is only at {}: it is another cluster, or \
                 an older copy of it",
                readable(place),
                readable(now)
            ));
        }
    }
    Ok(())
}

/// The error of a place that the oplog no longer holds, with the gap.
pub(crate) fn lost(
    lane: &LaneId,
    place: &Place,
    oldest: Option<Timestamp>,
    source: Error,
) -> Error {
    let from = place.time();
    let oldest = oldest.map(|time| ClusterTime { seconds: time.time, increment: time.increment });
    // The oplog may have moved on since the server said that it is too young.
    let to = oldest.filter(|to| from.is_none_or(|from| *to > from));
    let moment = |time: Option<ClusterTime>| time.map_or(Moment::Unknown, Moment::Cluster);
    let text = |time: Option<ClusterTime>| time.map_or("an unknown time".to_owned(), readable);
    let what = format!(
        "the changes of `{lane}` from {} to {} are lost: MongoDB's oplog no longer holds them",
        text(from),
        text(to)
    );
    let gap = Gap {
        lane: lane.clone(),
        reason: GapReason::HistoryLost,
        times: (moment(from), moment(to)),
        events: None,
        names: vec![lane.topic().to_owned()],
        repair: "copy the collections again",
    };
    let cause = std::error::Error::source(&source).map(ToString::to_string);
    Error::new(ErrorKind::HistoryLost, what)
        .with_source(cause.unwrap_or_else(|| source.to_string()))
        .with_hint(
            "enlarge the oplog (`replSetResizeOplog`), then start again as another `pipeline`, with \
             new tables and, without a Kafka, a new state folder: nothing that is missing was skipped in silence",
        )
        .with_gap(gap)
}

/// The error of an event that the server cannot send.
pub(crate) fn too_large(lane: &LaneId, place: &Place, source: &Error) -> Error {
    let time = place.time().map_or("an unknown time".to_owned(), readable);
    let behind = match place.token_data() {
        Some(data) => format!("the resume token `{data}`, of {time}"),
        None => time,
    };
    let what = format!(
        "an event of `{lane}` is larger than the 16 MB that MongoDB can send; it lies right behind \
         {behind}"
    );
    let cause = std::error::Error::source(source).map(ToString::to_string);
    Error::new(ErrorKind::Unsuitable, what)
        .with_source(cause.unwrap_or_else(|| source.to_string()))
        .with_hint(
            "everything before it is safe and nothing was skipped. Ask for less: \
             `full_document_before_change: off`, then `full_document: default`; MongoDB from 6.0.9 \
             and 7.0 on sends such events in parts",
        )
}

/// A cluster time as a person reads it, and as MongoDB has it.
fn readable(time: ClusterTime) -> String {
    let millis = i64::from(time.seconds) * 1000;
    let text = bson::DateTime::from_millis(millis).try_to_rfc3339_string();
    let text = text.unwrap_or_else(|_| format!("second {}", time.seconds));
    format!("{text} (Timestamp({}, {}))", time.seconds, time.increment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u32, increment: u32) -> Place {
        Place::At(Timestamp { time, increment })
    }

    fn verdict(place: Place, ours: Option<ObjectId>, clock: Clock) -> Option<String> {
        let bookmark = Bookmark { place, operations: None, reading: None, replica_set: ours };
        check(&LaneId::stream("d.c"), &bookmark, &clock).err().map(|error| error.to_string())
    }

    #[test]
    fn a_place_ahead_of_the_cluster_is_refused_with_both_times() {
        let clock = Clock {
            time: Some(Timestamp { time: 1_700_000_000, increment: 7 }),
            replica_set: None,
        };
        assert_eq!(verdict(at(1_700_000_000, 8), None, clock), None);
        assert_eq!(verdict(at(1_600_000_000, 9), None, clock), None);
        let refusal = verdict(at(1_700_000_000, 9), None, clock).unwrap();
        for part in ["2023-11-14T22:13:20Z", "Timestamp(1700000000, 9)", "Timestamp(1700000000, 7)"]
        {
            assert!(refusal.contains(part), "{refusal}");
        }
        assert_eq!(verdict(at(u32::MAX, 9), None, Clock { time: None, ..clock }), None);
    }

    #[test]
    fn another_replica_set_is_refused_where_both_ids_are_known() {
        let (one, other) = (Some(ObjectId::new()), Some(ObjectId::new()));
        let verdict = |ours, replica_set| {
            verdict(at(1, 1), ours, Clock { time: None, replica_set }).is_none()
        };
        assert!(verdict(one, one) && verdict(None, one) && verdict(one, None));
        assert!(!verdict(one, other));
    }

    #[test]
    fn a_lost_history_is_a_gap_with_its_ends() {
        let oldest = Some(Timestamp { time: 1_700_000_060, increment: 2 });
        let cause = Error::new(ErrorKind::HistoryLost, "cannot open").with_source("286");
        let error = lost(&LaneId::stream("d.c"), &at(1_700_000_000, 1), oldest, cause);
        let gap = error.gap().unwrap();
        let time = |seconds, increment| Moment::Cluster(ClusterTime { seconds, increment });
        assert_eq!(gap.times, (time(1_700_000_000, 1), time(1_700_000_060, 2)));
        assert_eq!(gap.names, ["d.c"]);
        assert!(error.to_string().contains("2023-11-14T22:13:20Z"), "{error}");
        assert!(error.to_string().contains("2023-11-14T22:14:20Z"), "{error}");
        let unknown = lost(
            &LaneId::stream("d.c"),
            &at(1, 1),
            None,
            Error::new(ErrorKind::HistoryLost, "cannot open"),
        );
        assert_eq!(unknown.gap().unwrap().times.1, Moment::Unknown);
    }
}
