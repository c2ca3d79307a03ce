//! What the model is made of: the rules, the bounds, and everything that a step may change.
//!
//! Time is counted in gusts: a gust is as many inserts of other lanes as can pass within an insert
//! deadline or within the longest life of a request, so either of the two may see one gust begin,
//! never two.

/// One event, by its offset.
pub(crate) type Offset = u8;

/// A set of offsets, one bit each.
pub(crate) type Rows = u8;

/// The most events that a model may hold.
pub(crate) const OFFSETS: usize = 4;

/// A declaration's block may be sent until this many gusts have begun since.
pub(crate) const DEADLINE: u8 = 1;

/// A request lives, in the network and on the server, until this many gusts have begun since.
pub(crate) const LIFE: u8 = 1;

/// A token is remembered until more gusts than this have begun since.
pub(crate) const WINDOW: u8 = 2;

/// The rules of the protocol; each can be broken on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// A Range is stored before its block is sent.
    pub(crate) declare_before_send: bool,
    /// A recovery looks which rows are there before it writes.
    pub(crate) read_back: bool,
    /// Blocks carry a deduplication token.
    pub(crate) tokens: bool,
    /// A token names the declaration, so that no other one ever uses it.
    pub(crate) token_names_declaration: bool,
    /// An attempt begins with the declaration's first token, not with `T~1`.
    pub(crate) first_token_first: bool,
    /// A look waits until no insert of the Range runs.
    pub(crate) quiesce: bool,
    /// Every look waits, not only the first one of a recovery.
    pub(crate) quiesce_every_look: bool,
    /// A block is sent only within the deadline of its declaration.
    pub(crate) deadline: bool,
    /// A checkpoint that is older than the table is noticed, and what it repeats is read back.
    pub(crate) guard_stale: bool,
    /// In a recovery only a look ends the Range, never an OK.
    pub(crate) next_after_proof: bool,
    /// A repair has a token of its own.
    pub(crate) repair_token_distinct: bool,
    /// Past its deadline, a Range is declared anew with new tokens; its old ones are never sent
    /// again.
    pub(crate) new_tokens_after_deadline: bool,
    /// New tokens are used only when no request under the old ones can be alive.
    pub(crate) outlive_requests: bool,
    /// It is stored that a Range was declared under guard.
    pub(crate) guard_is_stored: bool,
    /// It is stored that a Range is cut, before a half of it is sent.
    pub(crate) cut_is_stored: bool,
    /// A Range that was cut goes on with new tokens after a failure.
    pub(crate) new_tokens_after_cut: bool,
    /// A recovery sends the whole block again for the views.
    pub(crate) view_resend: bool,
    /// What a view may have missed or seen twice is recorded as a gap.
    pub(crate) view_gap: bool,
    /// A block is cut along the tree over the declared Range, whatever is left of it.
    pub(crate) dead_letter_same_tree: bool,
    /// The cuts of a repair, and their dead letters, have the repair's token.
    pub(crate) cut_keeps_repair: bool,
    /// A look counts a dead letter as there.
    pub(crate) dead_letter_read_back: bool,
}

impl Rules {
    /// The protocol as it is meant.
    pub(crate) const ALL: Self = Self {
        declare_before_send: true,
        read_back: true,
        tokens: true,
        token_names_declaration: true,
        first_token_first: true,
        quiesce: true,
        quiesce_every_look: true,
        deadline: true,
        guard_stale: true,
        next_after_proof: true,
        repair_token_distinct: true,
        new_tokens_after_deadline: true,
        outlive_requests: true,
        guard_is_stored: true,
        cut_is_stored: true,
        new_tokens_after_cut: true,
        view_resend: true,
        view_gap: true,
        dead_letter_same_tree: true,
        cut_keeps_repair: true,
        dead_letter_read_back: true,
    };
}

/// How often each fault may strike, and how the events are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Faults {
    /// Of any kind but gusts.
    pub(crate) all: u8,
    /// The worker is killed.
    pub(crate) kills: u8,
    /// The server is killed.
    pub(crate) server_kills: u8,
    /// The worker gives up waiting: the answer, or the request, is late.
    pub(crate) give_ups: u8,
    /// A request never arrives.
    pub(crate) losses: u8,
    /// The view fails after the table.
    pub(crate) view_failures: u8,
    /// The checkpoint is restored from a copy.
    pub(crate) restores: u8,
    /// The refused row is accepted from now on.
    pub(crate) mends: u8,
    /// Other lanes insert.
    pub(crate) gusts: u8,
}

/// One model: its rules, its size, its faults.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) rules: Rules,
    /// How many events there are.
    pub(crate) events: u8,
    /// The sizes that a Range may have.
    pub(crate) cuts: &'static [u8],
    /// The row that the server refuses.
    pub(crate) refused: Option<Offset>,
    pub(crate) faults: Faults,
}

/// A token: a Range, how often it was repaired, and where in the tree of cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    /// Which declaration it belongs to.
    pub(crate) declaration: u8,
    /// `T~n`; 0 is T.
    pub(crate) repair: u8,
    /// 1 is the whole Range; each cut appends a bit.
    pub(crate) path: u8,
}

impl Token {
    /// The offsets that the token stands for.
    pub(crate) fn span(self) -> (Offset, Offset) {
        let (mut first, mut last) = (self.first, self.last);
        let depth = 7 - self.path.leading_zeros();
        for level in (0..depth).rev() {
            let middle = first + (last - first) / 2;
            if self.path >> level & 1 == 0 {
                last = middle;
            } else {
                first = middle + 1;
            }
        }
        (first, last)
    }

    pub(crate) fn half(self, bit: u8) -> Self {
        Self { path: self.path << 1 | bit, ..self }
    }
}

/// The offsets from `first` to `last`.
pub(crate) fn rows(first: Offset, last: Offset) -> Rows {
    (first..=last).fold(0, |rows, offset| rows | 1 << offset)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Table {
    Events,
    DeadLetters,
}

/// Rows on their way under a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Block {
    pub(crate) table: Table,
    pub(crate) token: Token,
    pub(crate) rows: Rows,
}

/// How far the server is with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// In the network.
    Sent,
    /// About to look up and keep the token of a table partition.
    Token(u8),
    /// The token is kept; the rows are not there yet.
    Part(u8),
    /// The table is done; the view and the answer come next.
    View,
}

/// A request that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Insert {
    pub(crate) block: Block,
    pub(crate) stage: Stage,
    /// Gusts since it was sent.
    pub(crate) age: u8,
    /// It was sent within the deadline.
    pub(crate) in_time: bool,
    /// The worker waits for the answer.
    pub(crate) awaited: bool,
}

/// Where a token is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Log {
    /// With the events, by table partition.
    Events(u8),
    DeadLetters(u8),
    View,
}

/// A token that the server remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Kept {
    pub(crate) log: Log,
    pub(crate) token: Token,
    /// Gusts since it was kept.
    pub(crate) age: u8,
}

/// A declared Range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Intent {
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    /// Numbers the declarations.
    pub(crate) declaration: u8,
    /// Gusts since it was declared, with these tokens.
    pub(crate) age: u8,
    /// It was declared under guard.
    pub(crate) guarded: bool,
    /// It was declared before, with other tokens.
    pub(crate) anew: bool,
    /// A half of it may have been sent with these tokens.
    pub(crate) cut: bool,
}

impl Intent {
    pub(crate) fn token(self) -> Token {
        Token {
            first: self.first,
            last: self.last,
            declaration: self.declaration,
            repair: 0,
            path: 1,
        }
    }

    pub(crate) fn rows(self) -> Rows {
        rows(self.first, self.last)
    }
}

/// What is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Checkpoint {
    pub(crate) next: Offset,
    pub(crate) pending: Option<Intent>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Phase {
    /// Not running.
    #[default]
    Down,
    /// Nothing is pending.
    Idle,
    /// `sending` goes next.
    Send,
    /// For the answer to `sending`.
    Wait,
    /// An attempt failed: the Range is declared again.
    Redeclare,
    /// Waits until none of the Range's inserts runs.
    Quiesce,
    /// Reads back.
    Look,
    /// Everything is delivered and stored.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Ok,
    /// The block has a row that the server does not take.
    Refused,
    Error,
}

/// What dies with the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    pub(crate) next: Offset,
    /// Ranges that begin below it are read back before they are written.
    pub(crate) guard: Offset,
    pub(crate) pending: Option<Intent>,
    /// The Range is being recovered, not written for the first time.
    pub(crate) recovering: bool,
    /// T was sent in this attempt.
    pub(crate) first_sent: bool,
    pub(crate) repairs: u8,
    pub(crate) sending: Option<Block>,
    /// Halves of refused blocks, to be sent.
    pub(crate) halves: Vec<Block>,
    pub(crate) answer: Option<Answer>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) worker: Worker,
    pub(crate) stored: Checkpoint,
    /// Copies that were made of `stored`, where a restore is among the faults.
    pub(crate) copies: Vec<Checkpoint>,
    pub(crate) inserts: Vec<Insert>,
    pub(crate) kept: Vec<Kept>,
    /// How often each event is there.
    pub(crate) events: [u8; OFFSETS],
    pub(crate) view: [u8; OFFSETS],
    pub(crate) dead_letters: [u8; OFFSETS],
    /// Gusts since the first row of an event was written; 0 where nobody asks.
    pub(crate) written: [u8; OFFSETS],
    /// A gap record says that the view may be wrong.
    pub(crate) gap: bool,
    /// How many declarations there were.
    pub(crate) declarations: u8,
    /// Everything below was declared at some time.
    pub(crate) declared: Offset,
    pub(crate) refused: Option<Offset>,
    /// What may still strike.
    pub(crate) left: Faults,
}
