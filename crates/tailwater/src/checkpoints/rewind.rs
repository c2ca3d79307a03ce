//! Rewinding: first a plan, then what it says. A group's next process compares what it reads again with
//! what is there; a source publishes again whatever it reads again.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tailwater_core::config::{Config, Kafka};
use tailwater_core::position::{Checkpoint, LaneId, Millis, Position, Seq};
use tailwater_core::spoken::{moment, table};
use tailwater_core::topics::is_subscribed;
use tailwater_core::{Error, ErrorKind};
use tailwater_kafka::CheckpointTopic;
use tailwater_kafka::observer;
use tailwater_pipeline::clock;
use tailwater_pipeline::state_folder::StateFolder;
use tailwater_pipeline::write_ahead::CheckpointStore as _;

use crate::cluster::{self, Cluster};

/// Where to go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// The first record that is still there.
    Beginning,
    /// Behind the last one, for a log that ends before where the group is.
    End,
    /// An offset, or the number of a stream's checkpoint.
    Number(u64),
    /// A moment.
    Time(Millis),
}

/// What is to be done, and how it reads.
#[derive(Debug, Serialize)]
pub(crate) struct Plan {
    /// What follows from it.
    pub(crate) means: String,
    /// Each thing that moves.
    pub(crate) moves: Vec<Move>,
    #[serde(skip)]
    action: Action,
}

/// One thing that moves.
#[derive(Debug, Serialize)]
pub(crate) struct Move {
    what: String,
    from: String,
    to: String,
    /// The offsets that are read again.
    again: Option<u64>,
}

#[derive(Debug)]
enum Action {
    Group {
        cluster: Cluster,
        group: String,
        to: BTreeMap<LaneId, Seq>,
    },
    /// A group whose transactions say in the checkpoint topic, too, how far it is.
    Transactions {
        cluster: Cluster,
        group: String,
        name: Arc<str>,
        to: BTreeMap<LaneId, Seq>,
    },
    Topic {
        cluster: Cluster,
        pipeline: String,
        name: Arc<str>,
        to: Vec<(LaneId, Checkpoint)>,
    },
    Folder {
        folder: StateFolder,
        to: Vec<(LaneId, Checkpoint)>,
    },
}

impl Plan {
    pub(crate) fn to_text(&self) -> String {
        let heads = ["what", ">from", ">to", ">offsets again"].map(str::to_owned).to_vec();
        let mut lines = vec![heads];
        lines.extend(self.moves.iter().map(|it| {
            let again = it.again.map_or(String::new(), |again| again.to_string());
            vec![it.what.clone(), it.from.clone(), it.to.clone(), again]
        }));
        format!("{}\n{}\n", table(&lines), self.means)
    }

    /// Does it. Gives what is to be known afterwards.
    pub(crate) async fn carry_out(self) -> anyhow::Result<()> {
        match self.action {
            Action::Group { cluster, group, to } => cluster.observer.rewind(&group, &to).await?,
            Action::Transactions { cluster, group, name, to } => {
                let observer = &cluster.observer;
                // Refused where somebody has joined meanwhile; alone it does nothing.
                observer.rewind(&group, &to).await?;
                CheckpointTopic::rewind_lanes(observer, &group, &name, &to).await?;
                // Who has joined between the two went on from the later place: it is to be done again.
                observer.refuse_members(&group).await?;
            }
            Action::Topic { cluster, pipeline, name, to } => {
                for (lane, checkpoint) in to {
                    let client = &cluster.client;
                    CheckpointTopic::rewind(client, &pipeline, &name, &lane, checkpoint).await?;
                }
            }
            Action::Folder { mut folder, to } => folder.save(to).await?,
        }
        Ok(())
    }
}

/// Plans to set a group back; `only` some topics or topic-partitions, or all.
pub(crate) async fn of_group(
    config: &Config,
    kafka: &Kafka,
    part: &str,
    to: To,
    only: &[String],
) -> anyhow::Result<Plan> {
    let cluster = Cluster::reach(config).await?;
    let groups = cluster::groups(config, kafka);
    let Some(group) = groups.into_iter().find(|group| group.part == part) else {
        anyhow::bail!("there is no part `{part}`");
    };
    let observer = &cluster.observer;
    observer.refuse_members(&group.name).await?;
    let own = |lane: &LaneId| {
        only.is_empty() || only.iter().any(|it| *it == lane.to_string() || *it == lane.topic())
    };
    let topics = observer.topics(&group.subscription).await?;
    let lanes: Vec<LaneId> = observer::lanes(&topics)
        .into_iter()
        .filter(|lane| is_subscribed(&group.subscription, lane.topic()) && own(lane))
        .collect();
    let committed = observer.committed(&group.name, &lanes).await?;
    let mut committed: BTreeMap<LaneId, Seq> =
        committed.into_iter().map(|(lane, found)| (lane, found.next)).collect();
    if part == "normalize" {
        let name = &kafka.topics.checkpoints;
        for (lane, next) in CheckpointTopic::lanes_of(observer, name, &group.name, &lanes).await? {
            committed.entry(lane).and_modify(|known| *known = next.max(*known)).or_insert(next);
        }
    }
    let unknown = |name: &&String| {
        !committed.keys().any(|lane| **name == lane.to_string() || **name == lane.topic())
    };
    if let Some(name) = only.iter().find(unknown) {
        let what = format!("the group `{}` has committed nothing of `{name}`", group.name);
        return Err(Error::new(ErrorKind::Config, what)
            .with_hint("`tailwater checkpoint list` shows what it has; a topic-partition looks like `topic-0`")
            .into());
    }
    let lanes: Vec<LaneId> = committed.keys().cloned().collect();
    let logs = observer.logs(&lanes).await?;
    let times = match to {
        To::Time(time) => observer.at_time(&lanes, time).await?,
        _ => BTreeMap::new(),
    };
    let (mut moves, mut targets) = (Vec::new(), BTreeMap::new());
    for (lane, next) in &committed {
        let Some(log) = logs.get(lane) else { continue };
        let target = match to {
            To::Beginning => log.first,
            To::End => log.stable,
            To::Number(offset) => Seq(offset),
            To::Time(_) => times.get(lane).copied().unwrap_or(log.stable),
        };
        if target < log.first {
            let what = format!("the log of `{lane}` begins at {}, behind {target}", log.first);
            return Err(Error::new(ErrorKind::Config, what)
                .with_hint("`--to beginning` goes back as far as there are records")
                .into());
        }
        let is_number = matches!(to, To::Number(_));
        if target > *next || (target == *next && !is_number) {
            // Only a time and an end may be ahead of some lanes: those stay.
            if is_number {
                let what = format!("`{lane}` is at {next}: {target} is ahead of it");
                return Err(Error::new(ErrorKind::Config, what)
                    .with_hint("nothing is skipped: what is read lies behind")
                    .into());
            }
            continue;
        }
        moves.push(Move {
            what: format!("{} {lane}", group.name),
            from: next.to_string(),
            to: target.to_string(),
            again: Some(next.0 - target.0),
        });
        targets.insert(lane.clone(), target);
    }
    let means = match part {
        "normalize" => format!(
            "Everything from there on is normalized again: the topic `{}` gets those events a second \
             time, and so does the event table.",
            kafka.topics.normalized
        ),
        _ => "Everything from there on is read again and compared with the rows that are there: what is \
              missing is written, and nothing comes twice."
            .to_owned(),
    };
    let (group, to) = (group.name, targets);
    let name = Arc::clone(&kafka.topics.checkpoints);
    let action = match part {
        "normalize" => Action::Transactions { cluster, group, name, to },
        _ => Action::Group { cluster, group, to },
    };
    Ok(Plan { means, moves, action })
}

const PUBLISHED_AGAIN: &str = "\
The source publishes everything from there on again: the raw topics get those events a second time, and
so does the event table, under other offsets; `idempotency_key` tells them. The current state stays as
it is. A source that runs is fenced.";

/// Plans to give streams an earlier checkpoint, in the checkpoint topic; `only` some, or all.
pub(crate) async fn of_topic(
    config: &Config,
    kafka: &Kafka,
    to: To,
    only: &[String],
) -> anyhow::Result<Plan> {
    let cluster = Cluster::reach(config).await?;
    cluster.observer.refuse_members(&format!("{}.source", config.pipeline)).await?;
    let name = Arc::clone(&kafka.topics.checkpoints);
    let looked = CheckpointTopic::look(&cluster.observer, &name).await?;
    let Some(looked) = looked else {
        let what = format!("no source has run: there is no topic `{name}`");
        return Err(Error::new(ErrorKind::Config, what).into());
    };
    let mut newest = BTreeMap::new();
    for slot in &looked.slots {
        newest.entry(slot.lane.clone()).or_insert_with(|| slot.checkpoint.clone());
    }
    let earlier = |lane: &LaneId, n: u64| {
        let mut slots = looked.slots.iter().filter(|slot| slot.lane == *lane);
        let found = slots.clone().find(|slot| slot.n == n).map(|slot| slot.checkpoint.clone());
        found.ok_or_else(|| {
            let least = slots.next_back().map_or(0, |slot| slot.n);
            let what = format!("`{lane}` has no checkpoint {n} any more: the oldest is {least}");
            Error::new(ErrorKind::Config, what)
                .with_hint("`tailwater checkpoint show` lists them; `--to` takes a time, too")
        })
    };
    let (moves, to) = streams(&newest, to, only, earlier)?;
    let means = PUBLISHED_AGAIN.replace('\n', " ");
    let pipeline = config.pipeline.clone();
    Ok(Plan { means, moves, action: Action::Topic { cluster, pipeline, name, to } })
}

/// Plans to give streams an earlier checkpoint, in the state folder; `only` some, or all.
pub(crate) fn of_folder(config: &Config, to: To, only: &[String]) -> anyhow::Result<Plan> {
    let folder = StateFolder::open(&config.state)?;
    let newest = folder.checkpoints().clone();
    let no_earlier = |lane: &LaneId, _| {
        let what = format!("the state folder keeps one checkpoint of `{lane}`, and no earlier one");
        Err(Error::new(ErrorKind::Config, what).with_hint("give `--to` a time"))
    };
    let (moves, to) = streams(&newest, to, only, no_earlier)?;
    let to = to.into_iter().map(|(lane, checkpoint)| {
        // The events get new numbers, so that none proves anything: each is compared by itself.
        let before = newest.get(&lane).and_then(|it| it.pending.as_ref()).map(|it| it.range.last);
        let seq = before.map_or(checkpoint.next.seq, |last| last.plus(1));
        let next = Position { seq, ..checkpoint.next };
        (lane, Checkpoint { next, pending: None, renumbered: true, ..checkpoint })
    });
    let to = to.collect();
    let means =
        "Everything from there on is read again and each event is compared with the rows that \
                 are there: what is missing is written, and nothing comes twice."
            .to_owned();
    Ok(Plan { means, moves, action: Action::Folder { folder, to } })
}

type Streams = (Vec<Move>, Vec<(LaneId, Checkpoint)>);

fn streams(
    newest: &BTreeMap<LaneId, Checkpoint>,
    to: To,
    only: &[String],
    earlier: impl Fn(&LaneId, u64) -> Result<Checkpoint, Error>,
) -> anyhow::Result<Streams> {
    let is_known = |name: &&String| newest.keys().any(|lane| lane.to_string() == **name);
    if let Some(name) = only.iter().find(|name| !is_known(name)) {
        let what = format!("there is no stream `{name}`");
        return Err(Error::new(ErrorKind::Config, what)
            .with_hint("`tailwater checkpoint list` shows those that there are")
            .into());
    }
    let own = |lane: &LaneId| only.is_empty() || only.iter().any(|it| *it == lane.to_string());
    let (mut moves, mut targets) = (Vec::new(), Vec::new());
    for (lane, now) in newest.iter().filter(|(lane, _)| own(lane)) {
        let bookmark = super::bookmark(now)?;
        let at = bookmark.place.time().map(|time| Millis(i64::from(time.seconds) * 1000));
        let target = match to {
            To::Number(n) => earlier(lane, n)?,
            To::Time(time) => {
                let seconds = u32::try_from(time.0.div_euclid(1000)).unwrap_or(u32::MAX);
                if at.is_none_or(|at| time > at) || time > clock::now() {
                    let at = at.map_or("an unknown time".to_owned(), moment);
                    let what = format!("`{lane}` is at {at}: {} is ahead of it", moment(time));
                    return Err(Error::new(ErrorKind::Config, what)
                        .with_hint("nothing is skipped: what is read lies behind")
                        .into());
                }
                let next = Position { seq: now.next.seq, cursor: bookmark.at(seconds).encode() };
                Checkpoint { next, ..now.clone() }
            }
            To::Beginning | To::End => {
                let what = "a stream has neither a beginning nor an end";
                return Err(Error::new(ErrorKind::Config, what)
                    .with_hint("give `--to` a time, or the number of a checkpoint")
                    .into());
            }
        };
        let time = |checkpoint: &Checkpoint| {
            let place = super::bookmark(checkpoint).ok().and_then(|it| it.place.time());
            place.map_or("?".to_owned(), |it| moment(Millis(i64::from(it.seconds) * 1000)))
        };
        let (from, to) = (time(now), time(&target));
        moves.push(Move { what: format!("stream {lane}"), from, to, again: None });
        targets.push((lane.clone(), target));
    }
    Ok((moves, targets))
}
