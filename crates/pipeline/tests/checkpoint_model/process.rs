//! A process: the start sequence, and one transaction after the other. Between any two steps it may
//! be killed, or stopped for as long as it takes.

use crate::state::{Id, Phase, Process, Record, STREAM_OF, Seq, State, Topic, Transaction};

impl Process {
    /// Reads a committed checkpoint; the newest one counts.
    pub(crate) fn see(&mut self, record: Record) {
        self.read = self.read.max(record.next);
    }
}

impl State {
    /// Whether the group gives a process its stream.
    fn is_active(&self, id: Id) -> bool {
        STREAM_OF[id] != 0 || self.active == id
    }

    /// Whether a process runs a stream that the group has given to another one.
    pub(crate) fn can_step_down(&self, topic: &Topic, id: Id) -> bool {
        topic.rules.obeys_the_group
            && !self.is_active(id)
            && !matches!(self.processes[id].phase, Phase::Standby | Phase::Fenced)
    }

    /// Whether a process can take its next step, the beginning of a transaction aside.
    pub(crate) fn process_can_step(&self, topic: &Topic, id: Id) -> bool {
        let decided = !matches!(
            self.transaction(topic, id),
            Some(Transaction::Committing | Transaction::Aborting)
        );
        match self.processes[id].phase {
            Phase::Standby => self.is_active(id),
            Phase::Init => decided,
            Phase::Read => {
                let waits = |record: &Record| record.read_by >> id & 1 == 1;
                !self.checkpoints.iter().any(waits)
            }
            Phase::Idle => false,
            Phase::Records | Phase::Unsure => decided || !self.holds(topic, id),
            Phase::Ask | Phase::Checkpoint | Phase::Commit | Phase::Fenced => true,
        }
    }

    /// The next step of a process.
    pub(crate) fn step_process(&mut self, topic: &Topic, id: Id) {
        let rules = topic.rules;
        let Process { phase, next, end, read, remembers } = self.processes[id];
        let begin = if rules.fences_before_reading { Phase::Init } else { Phase::Ask };
        let phase = match phase {
            Phase::Standby => begin,
            Phase::Init if !self.initialise(topic, id) => Phase::Init,
            Phase::Init if rules.fences_before_reading && !remembers => Phase::Ask,
            Phase::Ask => {
                self.ask(topic, id);
                Phase::Read
            }
            Phase::Read => {
                self.processes[id].next = read;
                self.processes[id].read = 0;
                if rules.fences_before_reading { Phase::Idle } else { Phase::Init }
            }
            Phase::Init | Phase::Idle => Phase::Idle,
            Phase::Records => {
                let sent = self.produce(topic, id, next, end);
                if sent { Phase::Checkpoint } else { Phase::Fenced }
            }
            Phase::Checkpoint => {
                let sent = self.produce_checkpoint(topic, id, end);
                if sent { Phase::Commit } else { Phase::Fenced }
            }
            Phase::Commit => self.try_commit(topic, id),
            Phase::Unsure if rules.unknown_is_tried_again => {
                let phase = self.try_commit(topic, id);
                if phase == Phase::Idle && rules.starts_again_after_unknown {
                    self.processes[id] = Process::default();
                    begin
                } else {
                    phase
                }
            }
            Phase::Unsure => {
                self.abort(topic, topic.transactional_id(id));
                self.processes[id].remembers = true;
                Phase::Init
            }
            Phase::Fenced => {
                let process = &mut self.processes[id];
                *process = if rules.fenced_forgets {
                    Process::default()
                } else {
                    Process { remembers: true, ..*process }
                };
                let asks = rules.obeys_the_group && rules.fenced_forgets;
                if asks {
                    Phase::Standby
                } else if rules.fenced_forgets {
                    begin
                } else {
                    Phase::Init
                }
            }
        };
        self.processes[id].phase = phase;
        if phase == Phase::Idle {
            self.processes[id].end = 0;
            self.processes[id].remembers = false;
        }
    }

    /// Asks how far to read, and what is committed there already.
    fn ask(&mut self, topic: &Topic, id: Id) {
        let stream = STREAM_OF[id];
        self.processes[id].read = self.stable[stream];
        if !topic.rules.reads_to_high_watermark {
            return;
        }
        for record in &mut self.checkpoints {
            if record.undecided.is_some() {
                record.read_by |= 1 << id;
            } else if record.stream == stream {
                self.processes[id].see(*record);
            }
        }
    }

    /// Begins a transaction of so many events.
    pub(crate) fn begin(&mut self, id: Id, cut: Seq) {
        let process = &mut self.processes[id];
        process.end = process.next + cut;
        process.phase = Phase::Records;
    }

    fn try_commit(&mut self, topic: &Topic, id: Id) -> Phase {
        if !self.commit(topic, id) {
            return Phase::Fenced;
        }
        self.processes[id].next = self.processes[id].end;
        Phase::Idle
    }

    /// A process dies and is started again, or stops: what it has open stays open.
    pub(crate) fn reset(&mut self, id: Id) {
        self.processes[id] = Process::default();
        self.checkpoints.iter_mut().for_each(|record| record.read_by &= !(1 << id));
    }
}
