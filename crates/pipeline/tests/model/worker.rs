//! The worker: `write_ahead.rs`, one step at a time. Between any two steps it may be killed, or
//! stopped for as long as it takes.

use crate::server::there;
use crate::state::{
    Answer, Block, Checkpoint, Cut, DEADLINE, Insert, Intent, Lane, Offset, Phase, Purpose, Rows,
    Stage, State, Table, Token, Worker,
};

/// More rounds than the faults can call for: the finishing does not end.
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
            Phase::SetForeign => self.set_foreign(lane),
            Phase::Quiesce => self.worker.phase = Phase::Look,
            Phase::Look => self.look(lane),
            Phase::Cut => self.cut(lane),
            Phase::Done => {}
        }
    }

    /// What a look sees: rows, and dead letters.
    fn see(&self, lane: &Lane) -> (Rows, Rows) {
        let dead =
            if lane.rules.dead_letters_are_read_back { there(&self.dead_letters) } else { 0 };
        (there(&self.events), dead)
    }

    fn start(&mut self, lane: &Lane) {
        let Checkpoint { next, mut pending } = self.stored;
        let expected = pending.map_or(next, |intent| intent.last + 1);
        let (rows, dead) = self.see(lane);
        let seen = (8 - (rows | dead).leading_zeros()) as Offset;
        let guard = if lane.rules.guard && seen > expected { seen } else { 0 };
        if let Some(intent) = &mut pending {
            intent.foreign &= lane.rules.foreign_is_stored;
        }
        let first = lane.rules.first_after_claim_is_proven;
        let prove = if first { guard.max(expected) + 1 } else { guard };
        let phase = if pending.is_some() { Phase::Redeclare } else { Phase::Idle };
        self.worker = Worker { phase, next, guard, prove, pending, ..Worker::default() };
    }

    /// Stores the checkpoint as it is in memory, with a Range or without.
    fn store(&mut self, lane: &Lane, pending: Option<Intent>) {
        self.worker.pending = pending;
        let stored = pending.filter(|_| lane.rules.declared_before_sent);
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
        let foreign = first < self.worker.guard;
        let intent = Intent { first, last: first + cut - 1, age: 0, foreign };
        self.store(lane, Some(intent));
        if first < self.worker.prove {
            self.worker.in_one_block = !foreign;
            self.worker.phase = Phase::Redeclare;
        } else {
            self.send_block(Purpose::Write, Table::Events, intent.token(), intent.rows());
        }
    }

    /// A finishing begins.
    fn redeclare(&mut self, lane: &Lane) {
        let Some(mut intent) = self.worker.pending else { return };
        if intent.foreign || intent.age > DEADLINE {
            intent.age = 0;
            intent.foreign |= lane.rules.foreign_past_deadline;
            self.store(lane, Some(intent));
        }
        self.worker.round = u8::from(!lane.rules.walks_from_t);
        self.worker.outlived = !lane.rules.outlive_requests;
        self.worker.phase = Phase::Quiesce;
    }

    /// The worker waits until no unanswered request can be alive, but on the server.
    fn outlive(&mut self, lane: &Lane) {
        if lane.rules.outlive_requests {
            self.lose(|insert| insert.stage == Stage::Sent);
        }
        self.worker.outlived = true;
        self.worker.phase = self.again(lane);
    }

    /// From here on other blocks are sent than the whole one under T.
    fn set_foreign(&mut self, lane: &Lane) {
        let Some(mut intent) = self.worker.pending else { return };
        intent.foreign = true;
        self.store(lane, Some(intent));
        self.outlive(lane);
    }

    fn send_block(&mut self, purpose: Purpose, table: Table, token: Token, rows: Rows) {
        self.worker.purpose = purpose;
        self.worker.sending = Some(Block { table, token, rows });
        self.worker.phase = Phase::Send;
    }

    fn fail(&mut self) {
        self.worker.sending = None;
        self.worker.in_one_block = false;
        self.worker.halves.clear();
        self.worker.refused.clear();
        self.worker.cut = None;
        self.worker.missing = 0;
        self.worker.dead = 0;
        self.worker.phase = Phase::Redeclare;
    }

    fn send(&mut self, lane: &Lane) {
        let (Some(block), Some(intent)) = (self.worker.sending, self.worker.pending) else {
            return;
        };
        if lane.rules.deadline && intent.age > DEADLINE {
            return self.fail();
        }
        self.inserts.push(Insert { block, stage: Stage::Sent, age: 0, awaited: true });
        self.worker.phase = Phase::Wait;
    }

    fn take_answer(&mut self, lane: &Lane) {
        let Some(intent) = self.worker.pending else { return };
        let sent = self.worker.sending.take();
        match (self.worker.answer.take(), self.worker.purpose) {
            (Some(Answer::Error) | None, _) | (Some(Answer::Refused), Purpose::Write) => {
                self.fail()
            }
            (Some(Answer::Ok), Purpose::Write | Purpose::Fill) => self.advance(),
            (Some(Answer::Ok), Purpose::Finish) => self.next_round(lane),
            (Some(Answer::Ok), Purpose::Cut) => self.go_on_cutting(),
            (Some(Answer::Refused), Purpose::Fill) => {
                self.record_gap(lane, intent);
                self.advance();
            }
            (Some(Answer::Refused), Purpose::Finish) => {
                self.worker.in_one_block = false;
                if lane.rules.foreign_before_other_blocks && !intent.foreign {
                    self.worker.phase = Phase::SetForeign;
                    return;
                }
                self.store(lane, Some(Intent { foreign: true, ..intent }));
                self.worker.refused.extend(sent.map(|block| (intent.root(block.token), true)));
                self.worker.phase = Phase::Cut;
            }
            (Some(Answer::Refused), Purpose::Cut) => {
                self.worker.refused.extend(self.worker.cut.map(|cut| (cut, true)));
                self.go_on_cutting();
            }
        }
    }

    fn go_on_cutting(&mut self) {
        self.worker.cut = None;
        self.worker.phase = Phase::Cut;
    }

    fn next_round(&mut self, lane: &Lane) {
        self.worker.missing = 0;
        self.worker.dead = 0;
        if !lane.rules.only_a_read_back_is_proof {
            return self.advance();
        }
        self.worker.round = (self.worker.round + 1).min(ENDLESS);
        self.worker.phase = self.again(lane);
    }

    /// Towards a look that is not the first one of a finishing.
    fn again(&self, lane: &Lane) -> Phase {
        if lane.rules.quiesce_before_each_look { Phase::Quiesce } else { Phase::Look }
    }

    fn look(&mut self, lane: &Lane) {
        let Some(intent) = self.worker.pending else { return };
        let (rules, all, round) = (lane.rules, intent.rows(), self.worker.round);
        let (rows, dead) = self.see(lane);
        let (missing, dead) = (all & !(rows | dead), all & dead);
        if missing == 0 {
            return self.fill_views(lane, intent);
        }
        let whole = missing == all && round == u8::from(!rules.walks_from_t);
        if rules.foreign_before_other_blocks && !whole && !intent.foreign {
            self.worker.phase = Phase::SetForeign;
            return;
        }
        if intent.foreign && !self.worker.outlived {
            return self.outlive(lane);
        }
        self.worker.in_one_block &= whole;
        let token = if rules.rounds_have_tokens {
            Token { round, ..intent.token() }
        } else {
            intent.token()
        };
        if dead == 0 {
            let rows = if rules.only_what_is_missing { missing } else { all };
            return self.send_block(Purpose::Finish, Table::Events, token, rows);
        }
        self.worker.in_one_block = false;
        self.worker.missing = missing;
        self.worker.dead = dead;
        self.worker.refused.push((intent.root(token), false));
        self.worker.phase = Phase::Cut;
    }

    fn fill_views(&mut self, lane: &Lane, intent: Intent) {
        let rules = lane.rules;
        if self.worker.in_one_block || !rules.fill_views {
            self.advance();
        } else if !(intent.foreign && rules.fill_unless_foreign) {
            self.send_block(Purpose::Fill, Table::Events, intent.token(), intent.rows());
        } else {
            self.record_gap(lane, intent);
            self.advance();
        }
    }

    fn record_gap(&mut self, lane: &Lane, intent: Intent) {
        if lane.rules.gap_record {
            self.gap |= intent.rows();
        }
    }

    /// Takes a refused block apart.
    fn cut(&mut self, lane: &Lane) {
        let rules = lane.rules;
        if let Some(half) = self.worker.halves.pop() {
            let rows = half.rows() & self.worker.missing;
            if rows != 0 && half.rows() & self.worker.dead != 0 {
                self.worker.refused.push((half, false));
            } else if rows != 0 {
                self.worker.cut = Some(half);
                self.send_block(Purpose::Cut, Table::Events, half.token, rows);
            }
            return;
        }
        let Some((cut, refused)) = self.worker.refused.pop() else {
            return self.next_round(lane);
        };
        let Some(intent) = self.worker.pending else { return };
        if refused && (rules.read_back_after_refusal || cut.token.path == 1) {
            let (rows, dead) = self.see(lane);
            self.worker.missing = intent.rows() & !(rows | dead);
        }
        let missing = cut.rows() & self.worker.missing;
        if cut.first < cut.last {
            let middle = if rules.one_tree || missing == 0 {
                cut.first + (cut.last - cut.first) / 2
            } else {
                (missing.trailing_zeros() as Offset).min(cut.last - 1)
            };
            let first = Cut { token: cut.token.half(0), last: middle, ..cut };
            let second = Cut { token: cut.token.half(1), first: middle + 1, ..cut };
            self.worker.halves = vec![second, first];
        } else if refused && missing != 0 {
            self.send_block(Purpose::Cut, Table::DeadLetters, cut.token, missing);
        }
    }

    fn advance(&mut self) {
        let Worker { guard, prove, pending, next, .. } = self.worker;
        let next = pending.map_or(next, |intent| intent.last + 1);
        self.worker = Worker { phase: Phase::Idle, next, guard, prove, ..Worker::default() };
    }
}
