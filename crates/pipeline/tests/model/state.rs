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

/// The rules of the protocol; each can be broken on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// A Range is stored before its block is sent.
    pub(crate) declared_before_sent: bool,
    /// Blocks carry a deduplication token.
    pub(crate) tokens: bool,
    /// In a finishing only a read-back ends the Range, never an OK.
    pub(crate) only_a_read_back_is_proof: bool,
    /// The first Range behind a claimed checkpoint is finished, whatever the server answers.
    pub(crate) first_after_claim_is_proven: bool,
    /// Every finishing begins with T, not with `T~1`.
    pub(crate) walks_from_t: bool,
    /// A finishing sends what is missing, not the whole Range.
    pub(crate) only_what_is_missing: bool,
    /// Each round has tokens of its own.
    pub(crate) rounds_have_tokens: bool,
    /// A look waits until no insert of the Range runs.
    pub(crate) quiesce: bool,
    /// Every look waits, not only the first one of a finishing.
    pub(crate) quiesce_before_each_look: bool,
    /// A block is sent only within the deadline of its declaration.
    pub(crate) deadline: bool,
    /// A checkpoint that is older than the table is noticed, and what it repeats is read back.
    pub(crate) guard: bool,
    /// A Range becomes foreign before anything but its whole block under T is sent.
    pub(crate) foreign_before_other_blocks: bool,
    /// A Range becomes foreign before it is declared again, past its deadline.
    pub(crate) foreign_past_deadline: bool,
    /// That a Range is foreign is stored.
    pub(crate) foreign_is_stored: bool,
    /// Nothing but the whole block under T is sent while an unanswered request may be alive.
    pub(crate) outlive_requests: bool,
    /// A block is cut along the tree over the declared Range, whatever is left of it.
    pub(crate) one_tree: bool,
    /// After every refusal it is read back what is there.
    pub(crate) read_back_after_refusal: bool,
    /// A look counts a dead letter as there.
    pub(crate) dead_letters_are_read_back: bool,
    /// A finishing sends the whole block again for the views.
    pub(crate) fill_views: bool,
    /// Not when rows came in anything but the whole block under T.
    pub(crate) fill_unless_foreign: bool,
    /// Views that cannot be filled are recorded as a gap.
    pub(crate) gap_record: bool,
}

impl Rules {
    /// The protocol as it is meant.
    pub(crate) const ALL: Self = Self {
        declared_before_sent: true,
        tokens: true,
        only_a_read_back_is_proof: true,
        first_after_claim_is_proven: true,
        walks_from_t: true,
        only_what_is_missing: true,
        rounds_have_tokens: true,
        quiesce: true,
        quiesce_before_each_look: true,
        deadline: true,
        guard: true,
        foreign_before_other_blocks: true,
        foreign_past_deadline: true,
        foreign_is_stored: true,
        outlive_requests: true,
        one_tree: true,
        read_back_after_refusal: true,
        dead_letters_are_read_back: true,
        fill_views: true,
        fill_unless_foreign: true,
        gap_record: true,
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
    /// A token is remembered until more gusts than this have begun since.
    pub(crate) window: u8,
    /// How many events there are.
    pub(crate) events: u8,
    /// The sizes that a Range may have.
    pub(crate) cuts: &'static [u8],
    /// The row that the server refuses.
    pub(crate) refused: Option<Offset>,
    /// It is the view that refuses it, after the table took it.
    pub(crate) by_view: bool,
    pub(crate) faults: Faults,
}

/// A token: a Range, the round of its finishing, and where in the tree of cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) first: Offset,
    pub(crate) last: Offset,
    /// `T~n`; 0 is T.
    pub(crate) round: u8,
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

/// A node of the tree of cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Cut {
    pub(crate) token: Token,
    pub(crate) first: Offset,
    pub(crate) last: Offset,
}

impl Cut {
    pub(crate) fn rows(self) -> Rows {
        rows(self.first, self.last)
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
    /// Gusts since it was declared.
    pub(crate) age: u8,
    /// Some of its rows may come, or have come, in other blocks than the whole one under T.
    pub(crate) foreign: bool,
}

impl Intent {
    pub(crate) fn token(self) -> Token {
        Token { first: self.first, last: self.last, round: 0, path: 1 }
    }

    /// The root of the tree of cuts.
    pub(crate) fn root(self, token: Token) -> Cut {
        Cut { token, first: self.first, last: self.last }
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
    /// A finishing begins; past its deadline the Range is declared again.
    Redeclare,
    /// The Range becomes foreign.
    SetForeign,
    /// Waits until none of the Range's inserts runs.
    Quiesce,
    /// Reads back.
    Look,
    /// Goes on taking a refused block apart.
    Cut,
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

/// Why a block is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Purpose {
    /// The first write of a Range.
    #[default]
    Write,
    /// A round of a finishing.
    Finish,
    /// A half of a refused block, or a dead letter.
    Cut,
    /// The whole block again, for the views.
    Fill,
}

/// What dies with the process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Worker {
    pub(crate) phase: Phase,
    pub(crate) next: Offset,
    /// Ranges that begin below it may have rows that came in Ranges of other bounds.
    pub(crate) guard: Offset,
    /// Ranges that begin below it are proven.
    pub(crate) prove: Offset,
    pub(crate) pending: Option<Intent>,
    pub(crate) round: u8,
    /// No request of an earlier pass can be alive, but on the server.
    pub(crate) outlived: bool,
    /// The round that goes on sends the whole block, and nothing of the Range was sent before.
    pub(crate) in_one_block: bool,
    pub(crate) purpose: Purpose,
    pub(crate) sending: Option<Block>,
    /// What the last look saw.
    pub(crate) missing: Rows,
    pub(crate) dead: Rows,
    /// Halves of a refused block, to be sent.
    pub(crate) halves: Vec<Cut>,
    /// The half that is sent.
    pub(crate) cut: Option<Cut>,
    /// What is to be cut: what the server refused, or what only holds a dead letter.
    pub(crate) refused: Vec<(Cut, bool)>,
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
    /// Events of which a gap record says that the view may be wrong.
    pub(crate) gap: Rows,
    /// Everything below was declared at some time.
    pub(crate) declared: Offset,
    pub(crate) refused: Option<Offset>,
    /// What may still strike.
    pub(crate) left: Faults,
}
