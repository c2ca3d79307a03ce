//! What the model is made of: the rules, the bounds, and everything that a step may change.

/// A process, by its number.
pub(crate) type Id = usize;

/// The number of an event in its stream; as a position, the number of the next one.
pub(crate) type Seq = u8;

/// How many processes there are.
pub(crate) const PROCESSES: usize = 3;

/// How many streams share the partition.
pub(crate) const STREAMS: usize = 2;

/// The stream of each process: two may run the first one, one runs the second.
pub(crate) const STREAM_OF: [usize; PROCESSES] = [0, 0, 1];

/// The rules of the protocol; each can be broken on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The processes of a stream share a transactional id, so that the last to start fences.
    pub(crate) one_transactional_id: bool,
    /// It fences before it reads the checkpoint.
    pub(crate) fences_before_reading: bool,
    /// It reads up to the high watermark, not to the last stable offset.
    pub(crate) reads_to_high_watermark: bool,
    /// The checkpoint is part of the transaction.
    pub(crate) checkpoint_in_transaction: bool,
    /// A commit of unknown outcome is tried again until it has one.
    pub(crate) unknown_is_tried_again: bool,
    /// After it the process starts again, with a new epoch.
    pub(crate) starts_again_after_unknown: bool,
    /// A fenced process forgets what it had in hand.
    pub(crate) fenced_forgets: bool,
    /// It starts again only if the group gives it the stream, and stops when another one gets it.
    pub(crate) obeys_the_group: bool,
}

impl Rules {
    /// The protocol as it is meant.
    pub(crate) const ALL: Self = Self {
        one_transactional_id: true,
        fences_before_reading: true,
        reads_to_high_watermark: true,
        checkpoint_in_transaction: true,
        unknown_is_tried_again: true,
        starts_again_after_unknown: true,
        fenced_forgets: true,
        obeys_the_group: true,
    };
}

/// How often each fault may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Faults {
    pub(crate) all: u8,
    /// A process is killed, and started again.
    pub(crate) kills: u8,
    /// The group gives the first stream to the other process.
    pub(crate) takeovers: u8,
    /// A commit is done, and its answer is lost.
    pub(crate) lost_answers: u8,
    /// A commit is given up, and arrives late or never.
    pub(crate) late_commits: u8,
    /// The coordinator ends a transaction that took too long, though its process is alive.
    pub(crate) expiries: u8,
}

/// One model: its rules, its size, its faults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic {
    pub(crate) rules: Rules,
    /// How many events each stream has.
    pub(crate) events: [Seq; STREAMS],
    /// How many events a transaction may hold.
    pub(crate) cuts: &'static [Seq],
    /// Each transaction has an epoch of its own (KIP-890): what was meant for the one before is
    /// refused.
    pub(crate) epoch_per_transaction: bool,
    pub(crate) faults: Faults,
}

impl Topic {
    /// The transactional id of a process.
    pub(crate) fn transactional_id(&self, id: Id) -> usize {
        if self.rules.one_transactional_id { STREAM_OF[id] } else { id }
    }
}

/// Where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Phase {
    /// It runs nothing, and waits for the group.
    #[default]
    Standby,
    /// In `init_transactions`.
    Init,
    /// About to ask for the high watermark.
    Ask,
    /// Reading up to it.
    Read,
    /// Between two transactions.
    Idle,
    /// About to send the records of a transaction.
    Records,
    /// About to send its checkpoint.
    Checkpoint,
    /// About to commit.
    Commit,
    /// The commit was not answered.
    Unsure,
    /// The broker said that another one has taken over.
    Fenced,
}

/// What dies with a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Process {
    pub(crate) phase: Phase,
    pub(crate) next: Seq,
    /// The transaction in hand ends before it.
    pub(crate) end: Seq,
    /// The newest checkpoint that the read has seen.
    pub(crate) read: Seq,
    /// It goes on with what it has in hand, once it has initialised.
    pub(crate) remembers: bool,
}

/// What the coordinator does with a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Transaction {
    Open,
    /// Decided; the partitions are still to be told.
    Committing,
    Aborting,
}

/// What the coordinator keeps for a transactional id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Producer {
    /// Who has the last epoch.
    pub(crate) holder: Option<Id>,
    /// Where the transaction begins, so that another one can be told from it.
    pub(crate) first: Seq,
    pub(crate) transaction: Option<Transaction>,
}

/// Records in the topic of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Records {
    pub(crate) first: Seq,
    pub(crate) end: Seq,
    /// The transactional id, while the transaction is not decided.
    pub(crate) undecided: Option<usize>,
}

/// A record in the checkpoint partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Record {
    pub(crate) stream: usize,
    pub(crate) next: Seq,
    /// The transactional id, while the partition was not told how the transaction ended.
    pub(crate) undecided: Option<usize>,
    /// Which processes read up to a high watermark behind it, one bit each.
    pub(crate) read_by: u8,
}

/// A commit that was given up, on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Late {
    pub(crate) by: Id,
    pub(crate) first: Seq,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) processes: [Process; PROCESSES],
    /// Which process the group gives the first stream.
    pub(crate) active: Id,
    pub(crate) producers: [Producer; PROCESSES],
    pub(crate) late: Vec<Late>,
    /// Each stream's topic, but for what is folded into `visible`.
    pub(crate) topics: [Vec<Records>; STREAMS],
    /// A reader of committed records has seen everything below.
    pub(crate) visible: [Seq; STREAMS],
    /// It has seen something twice, or has missed something.
    pub(crate) broken: bool,
    /// The checkpoint partition, but for what is folded into `stable`.
    pub(crate) checkpoints: Vec<Record>,
    /// Each stream's newest checkpoint below the last stable offset.
    pub(crate) stable: [Seq; STREAMS],
    /// A checkpoint was not behind the one before.
    pub(crate) backwards: bool,
    /// What may still strike.
    pub(crate) left: Faults,
}
