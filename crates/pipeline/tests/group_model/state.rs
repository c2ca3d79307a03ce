//! What the model is made of: the rules, the bounds, and everything that a step may change.
//!
//! Time is counted in gusts, as in the model of one lane: a gust is as many inserts of other lanes
//! as can pass within an insert deadline or within the longest life of a request, so either of the
//! two may see one gust begin, never two.

/// A worker, by its number.
pub(crate) type Id = usize;

/// An offset of the partition. Not each has an event: markers and aborted records take some.
pub(crate) type Offset = u8;

/// A set of offsets, one bit each.
pub(crate) type Rows = u8;

/// A declaration's block may be sent until this many gusts have begun since.
pub(crate) const DEADLINE: u8 = 1;

/// A request lives, in the network and on the server, until this many gusts have begun since.
pub(crate) const LIFE: u8 = 1;

/// The rules of the protocol; each can be broken on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// A Range is committed before its block is sent.
    pub(crate) declared_before_sent: bool,
    /// Only an answer says that a commit is there.
    pub(crate) only_an_answer_counts: bool,
    /// The revoke callback returns only when the lane has stopped.
    pub(crate) revoke_waits_for_the_lane: bool,
    /// So it does when the assignment was lost.
    pub(crate) lost_waits_for_the_lane: bool,
    /// A lane that stops waits for the answer to its commit.
    pub(crate) stop_waits_for_commits: bool,
    /// A lane that stops does not try again what was refused.
    pub(crate) refused_ends_a_stop: bool,
    /// Once the assignment is lost nothing is committed, and an OK is none.
    pub(crate) lost_never_commits: bool,
    /// A commit that was never answered cannot arrive behind the next one.
    pub(crate) outlive_commits: bool,
    /// A new owner finishes the pending Range.
    pub(crate) recover_on_assign: bool,
    /// A look waits until no insert of the Range runs, whoever sent it.
    pub(crate) quiesce: bool,
    /// A block is sent only within the deadline of its declaration.
    pub(crate) deadline: bool,
    /// Nothing but the whole block under T is sent while an unanswered request may be alive.
    pub(crate) outlive_requests: bool,
    /// Nor while an earlier owner may still send one.
    pub(crate) outlive_owners: bool,
    /// After that wait it looks again before it sends.
    pub(crate) looks_after_outliving: bool,
    /// Where nothing is committed, it goes on from the first offset, not from the last.
    pub(crate) nothing_committed_is_the_beginning: bool,
    /// A checkpoint that is older than the table is noticed, and what it repeats is read back.
    pub(crate) guard: bool,
}

impl Rules {
    /// The protocol as it is meant.
    pub(crate) const ALL: Self = Self {
        declared_before_sent: true,
        only_an_answer_counts: true,
        revoke_waits_for_the_lane: true,
        lost_waits_for_the_lane: true,
        stop_waits_for_commits: true,
        refused_ends_a_stop: true,
        lost_never_commits: true,
        outlive_commits: true,
        recover_on_assign: true,
        quiesce: true,
        deadline: true,
        outlive_requests: true,
        outlive_owners: true,
        looks_after_outliving: true,
        nothing_committed_is_the_beginning: true,
        guard: true,
    };
}

/// How often each fault may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Faults {
    /// Of any kind but gusts.
    pub(crate) all: u8,
    /// A worker is killed.
    pub(crate) kills: u8,
    /// A worker's session times out, while it works on or is stopped.
    pub(crate) timeouts: u8,
    /// The partition is asked back, for the other worker or for the same one.
    pub(crate) handovers: u8,
    /// A new generation in which everybody keeps what it has.
    pub(crate) generations: u8,
    /// A commit is given up, and arrives late.
    pub(crate) late_commits: u8,
    /// A commit waits in the client until a coordinator is known again.
    pub(crate) deferrals: u8,
    /// The database server is killed.
    pub(crate) server_kills: u8,
    /// Somebody sets the committed offset back, or deletes it.
    pub(crate) resets: u8,
    /// Other lanes insert.
    pub(crate) gusts: u8,
}

/// One model: its rules, its size, its faults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) rules: Rules,
    /// A token is remembered until more gusts than this have begun since.
    pub(crate) window: u8,
    /// The offsets that have an event.
    pub(crate) events: &'static [Offset],
    /// How many events a Range may have.
    pub(crate) cuts: &'static [usize],
    pub(crate) faults: Faults,
}

impl Group {
    /// The offset behind the last event.
    pub(crate) fn end(&self) -> Offset {
        self.events.last().map_or(0, |last| last + 1)
    }

    /// The events between two offsets, both included.
    pub(crate) fn rows(&self, first: Offset, last: Offset) -> Rows {
        let within = |at: &&Offset| (first..=last).contains(*at);
        self.events.iter().filter(within).fold(0, |rows, at| rows | 1 << at)
    }

    /// The events before an offset.
    pub(crate) fn before(&self, next: Offset) -> Rows {
        if next == 0 { 0 } else { self.rows(0, next - 1) }
    }
}

/// The token of a Range, in a round of its finishing; 0 is T.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    pub(crate) round: u8,
}

/// A declared Range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Intent {
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    /// Gusts since it was declared.
    pub(crate) age: u8,
    /// Some of its rows may come, or have come, in other blocks than the whole one under T.
    pub(crate) foreign: bool,
}

/// What is committed: the offset, and the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Checkpoint {
    pub(crate) next: Offset,
    pub(crate) pending: Option<Intent>,
}

/// As whom a commit is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Sender {
    /// A member in this generation.
    Member,
    /// Whoever it was, it is not in this generation.
    Former,
    /// Nobody, generation -1: a group without members takes it.
    Nobody,
}

/// A commit on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Commit {
    pub(crate) by: Id,
    pub(crate) sender: Sender,
    pub(crate) checkpoint: Checkpoint,
    /// The assignment that it belongs to has ended.
    pub(crate) ended: bool,
    /// The lane waits for the answer.
    pub(crate) awaited: bool,
}

/// How far the database server is with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// In the network.
    Sent,
    /// The token is kept; the rows are not there yet.
    Runs,
}

/// An insert that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Insert {
    pub(crate) token: Token,
    pub(crate) rows: Rows,
    pub(crate) stage: Stage,
    /// Gusts since it was sent.
    pub(crate) age: u8,
    /// Whose lane waits for the answer.
    pub(crate) awaited_by: Option<Id>,
}

/// A token that the database server remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kept {
    pub(crate) token: Token,
    /// Gusts since it was kept.
    pub(crate) age: u8,
}

/// Where the polling thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Poll {
    /// About to join the group.
    #[default]
    Out,
    In,
    /// In the callback of a revocation; who gets the partition next, it may be the same worker.
    Revoking(Id),
    /// In the callback of a lost assignment.
    Losing,
}

/// Which generation the client believes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum View {
    #[default]
    None,
    Old,
    Current,
}

/// What a commit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    /// The block is sent for the first time.
    Send,
    /// The Range is finished.
    Finish,
    /// Nothing: everything is done.
    Settle,
}

/// Where the lane is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Phase {
    /// There is none.
    #[default]
    Off,
    /// Nothing is declared.
    Idle,
    /// Waiting for the answer to a commit.
    Commit(Then),
    /// About to check the deadline and to send.
    Send,
    /// Waiting for the answer to an insert.
    Wait,
    /// Waiting until no insert of the Range runs.
    Quiesce,
    /// About to read back.
    Look,
}

/// What a lane is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Ok,
    /// A commit: not in this generation. An insert: the server died.
    No,
    /// Nobody answered in time.
    Unknown,
}

/// The lane of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Lane {
    pub(crate) phase: Phase,
    /// Its assignment has ended; it may not know.
    pub(crate) ended: bool,
    /// Its callback has returned, and it goes on.
    pub(crate) orphan: bool,
    pub(crate) next: Offset,
    /// `next` is further than what is committed.
    pub(crate) unsaved: bool,
    /// Ranges that begin below it may have rows that came in Ranges of other bounds.
    pub(crate) guard: Offset,
    /// Ranges that begin below it are proven.
    pub(crate) prove: Offset,
    pub(crate) pending: Option<Intent>,
    /// The Range is being finished: only a look ends it.
    pub(crate) finishes: bool,
    pub(crate) round: u8,
    /// No request of an earlier pass, or of an earlier owner, can be alive, but on the server.
    pub(crate) outlived: bool,
    pub(crate) sending: Rows,
    pub(crate) answer: Option<Answer>,
}

/// A worker: what dies with the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Worker {
    pub(crate) poll: Poll,
    pub(crate) view: View,
    pub(crate) lane: Lane,
    /// A commit that the client keeps until it knows a coordinator.
    pub(crate) deferred: Option<Commit>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) workers: [Worker; 2],
    /// Whom the coordinator counts as a member.
    pub(crate) members: [bool; 2],
    /// Who has the partition.
    pub(crate) owner: Option<Id>,
    pub(crate) committed: Option<Checkpoint>,
    /// A commit of an ended assignment was taken, and the partition had an owner.
    pub(crate) usurped: bool,
    pub(crate) commits: Vec<Commit>,
    pub(crate) inserts: Vec<Insert>,
    pub(crate) kept: Vec<Kept>,
    /// The events that are there, and those that are there more than once.
    pub(crate) there: Rows,
    pub(crate) twice: Rows,
    /// Everything below was declared at some time.
    pub(crate) declared: Offset,
    /// What may still strike.
    pub(crate) left: Faults,
}
