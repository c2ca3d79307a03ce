//! The worker: `write_ahead.rs`, one step at a time. Between any two steps it may be killed, or
//! stopped for as long as it takes.

use crate::state::{
    Answer, Block, Checkpoint, DEADLINE, Insert, Intent, Lane, Offset, Phase, Rows, Stage, State,
    Table, Token, WINDOW, Worker, rows,
};

/// More repairs than the faults can call for: the recovery does not end.
pub(crate) const ENDLESS: u8 = 5;

impl State {
    /// Whether the worker can take its next step.
    pub(crate) fn worker_can_step(&self, lane: &Lane) -> bool {
        match self.worker.phase {
            Phase::Done => false,
            Phase::Wait => self.worker.answer.is_some(),
            Phase::Quiesce => {
                let range = self.worker.pending.map(|intent| (intent.first, intent.last));
                !(lane.rules.quiesce && range.is_some_and(|(first, last)| self.runs(first, last)))
            }
            _ => true,
        }
    }

    /// The worker's next step; `cut` is the size of the next Range, where one begins.
    pub(crate) fn step_worker(&mut self, lane: &Lane, cut: u8) {
        match self.worker.phase {
            Phase::Down => self.start(lane),
            Phase::Idle if self.worker.next == lane.events => {
                self.store(lane, None);
                self.worker.phase = Phase::Done;
            }
            Phase::Idle => self.declare(lane, cut),
            Phase::Send => self.send(lane),
            Phase::Wait => self.take_answer(lane),
            Phase::Redeclare => self.redeclare(lane),
            Phase::Quiesce => self.worker.phase = Phase::Look,
            Phase::Look => self.look(lane),
            Phase::Done => {}
        }
    }

    fn there(&self, lane: &Lane) -> Rows {
        (0..lane.events).fold(0, |there, offset| {
            let at = usize::from(offset);
            let dead = lane.rules.dead_letter_read_back && self.dead_letters[at] > 0;
            if self.events[at] > 0 || dead { there | 1 << offset } else { there }
        })
    }

    fn start(&mut self, lane: &Lane) {
        let Checkpoint { next, mut pending } = self.stored;
        if let Some(intent) = &mut pending {
            intent.guarded &= lane.rules.guard_is_stored;
            intent.cut &= lane.rules.cut_is_stored;
        }
        self.worker = Worker { phase: Phase::Idle, next, pending, ..Worker::default() };
        let done = pending.map_or(next, |intent| intent.last + 1);
        let seen = (8 - self.there(lane).leading_zeros()) as Offset;
        if lane.rules.guard_stale && seen > done {
            self.worker.guard = seen;
        }
        if pending.is_some() {
            self.worker.phase = Phase::Redeclare;
        }
    }

    /// Stores the checkpoint as it is in memory, with a Range or without.
    fn store(&mut self, lane: &Lane, pending: Option<Intent>) {
        self.worker.pending = pending;
        let stored = pending.filter(|_| lane.rules.declare_before_send);
        self.stored = Checkpoint { next: self.worker.next, pending: stored };
        if let Some(intent) = stored {
            self.declared = self.declared.max(intent.last + 1);
        }
        if self.left.restores > 0 && !self.copies.contains(&self.stored) {
            self.copies.push(self.stored);
        }
    }

    fn declare(&mut self, lane: &Lane, cut: u8) {
        let first = self.worker.next;
        let guarded = first < self.worker.guard;
        self.declarations += 1;
        let intent = Intent {
            first,
            last: first + cut - 1,
            declaration: if lane.rules.token_names_declaration { self.declarations } else { 0 },
            age: 0,
            guarded,
            anew: false,
            cut: false,
        };
        self.store(lane, Some(intent));
        self.worker.recovering = guarded;
        self.worker.first_sent = false;
        self.worker.repairs = 0;
        if guarded {
            self.worker.phase = Phase::Quiesce;
        } else {
            self.send_block(Table::Events, intent.token(), intent.rows());
        }
    }

    fn redeclare(&mut self, lane: &Lane) {
        let Some(mut intent) = self.worker.pending else { return };
        if !lane.rules.new_tokens_after_deadline {
            intent.age = 0;
        } else if intent.age > DEADLINE || intent.cut && lane.rules.new_tokens_after_cut {
            if lane.rules.outlive_requests {
                // The worker waits for as long as a request of the old declaration may live.
                self.lose(|insert| insert.stage == Stage::Sent && insert.in_time);
            }
            self.declarations += 1;
            let declaration = if lane.rules.token_names_declaration {
                self.declarations
            } else {
                intent.declaration + 1
            };
            intent = Intent { declaration, age: 0, anew: true, cut: false, ..intent };
        }
        self.store(lane, Some(intent));
        self.worker.recovering = true;
        self.worker.first_sent = false;
        self.worker.repairs = 0;
        self.worker.phase = Phase::Quiesce;
    }

    fn send_block(&mut self, table: Table, token: Token, rows: Rows) {
        self.worker.sending = Some(Block { table, token, rows });
        self.worker.phase = Phase::Send;
    }

    fn fail(&mut self) {
        self.worker.sending = None;
        self.worker.halves.clear();
        self.worker.phase = Phase::Redeclare;
    }

    fn send(&mut self, lane: &Lane) {
        let (Some(block), Some(intent)) = (self.worker.sending, self.worker.pending) else {
            return;
        };
        if lane.rules.deadline && intent.age > DEADLINE {
            return self.fail();
        }
        let in_time = intent.age <= DEADLINE;
        self.inserts.push(Insert { block, stage: Stage::Sent, age: 0, in_time, awaited: true });
        self.worker.phase = Phase::Wait;
    }

    fn take_answer(&mut self, lane: &Lane) {
        match self.worker.answer.take() {
            Some(Answer::Ok) => self.next_half(lane),
            Some(Answer::Refused) => self.bisect(lane),
            Some(Answer::Error) | None => self.fail(),
        }
    }

    fn next_half(&mut self, lane: &Lane) {
        self.worker.sending = None;
        if let Some(half) = self.worker.halves.pop() {
            self.send_block(half.table, half.token, half.rows);
        } else if self.worker.recovering && lane.rules.next_after_proof && lane.rules.read_back {
            let again = lane.rules.quiesce_every_look;
            self.worker.phase = if again { Phase::Quiesce } else { Phase::Look };
        } else {
            self.advance();
        }
    }

    fn bisect(&mut self, lane: &Lane) {
        let (Some(block), Some(mut intent)) = (self.worker.sending.take(), self.worker.pending)
        else {
            return;
        };
        if !intent.cut {
            intent.cut = true;
            self.store(lane, Some(intent));
        }
        let mut block = block;
        if !lane.rules.cut_keeps_repair {
            block.token.repair = 0;
        }
        let (first, last) = if lane.rules.dead_letter_same_tree {
            block.token.span()
        } else {
            let first = block.rows.trailing_zeros() as Offset;
            (first, (7 - block.rows.leading_zeros()) as Offset)
        };
        if first == last {
            self.worker.halves.push(Block { table: Table::DeadLetters, ..block });
        } else {
            let middle = first + (last - first) / 2;
            for (bit, half) in [(1, rows(middle + 1, last)), (0, rows(first, middle))] {
                if block.rows & half != 0 {
                    let token = block.token.half(bit);
                    self.worker.halves.push(Block { token, rows: block.rows & half, ..block });
                }
            }
        }
        self.next_half(lane);
    }

    /// T, where it was kept at all, is surely still remembered when the block that goes next is
    /// written.
    fn first_token_holds(&self, lane: &Lane, intent: Intent, missing: Rows) -> bool {
        let alone = !(intent.guarded || intent.anew || intent.cut);
        if lane.rules.new_tokens_after_deadline {
            return alone;
        }
        let there = (intent.first..=intent.last).filter(|offset| missing & 1 << offset == 0);
        let age = there.map(|offset| self.written[usize::from(offset)]).max().unwrap_or(0);
        alone && age <= WINDOW
    }

    fn look(&mut self, lane: &Lane) {
        let Some(intent) = self.worker.pending else { return };
        let all = intent.rows();
        let missing = if lane.rules.read_back { all & !self.there(lane) } else { all };
        let holds = self.first_token_holds(lane, intent, missing);
        if missing == 0 && (self.worker.first_sent || !lane.rules.view_resend) {
            return self.advance();
        }
        // A view may have got rows that the table lost, and is not asked.
        self.gap |= lane.rules.view_gap && (!holds || self.worker.first_sent);
        if missing == 0 && !holds {
            return self.advance();
        }
        let whole = holds || missing == all;
        let today = !lane.rules.new_tokens_after_deadline && !whole;
        if lane.rules.first_token_first && !self.worker.first_sent && !today {
            self.worker.first_sent = true;
            let rows = if whole { all } else { missing };
            return self.send_block(Table::Events, intent.token(), rows);
        }
        self.worker.repairs = (self.worker.repairs + 1).min(ENDLESS);
        let repair = if lane.rules.repair_token_distinct { self.worker.repairs } else { 0 };
        let token = Token { repair, ..intent.token() };
        self.send_block(Table::Events, token, missing);
    }

    fn advance(&mut self) {
        if let Some(intent) = self.worker.pending.take() {
            self.worker.next = intent.last + 1;
        }
        self.worker.recovering = false;
        self.worker.first_sent = false;
        self.worker.repairs = 0;
        self.worker.phase = Phase::Idle;
    }
}
