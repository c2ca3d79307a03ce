//! The broker: who may write under a transactional id, what becomes of a transaction, and what a
//! reader of committed records sees.
//!
//! A commit is decided when the coordinator writes it down; that is also when it answers. The
//! partitions are told later, by markers, and only then does a reader of committed records see the
//! transaction, or pass it.

use crate::state::{
    Id, Late, Producer, Record, Records, STREAM_OF, Seq, State, Topic, Transaction,
};

impl State {
    /// Whether a process has the last epoch of its transactional id.
    pub(crate) fn holds(&self, topic: &Topic, id: Id) -> bool {
        self.producers[topic.transactional_id(id)].holder == Some(id)
    }

    pub(crate) fn transaction(&self, topic: &Topic, id: Id) -> Option<Transaction> {
        self.producers[topic.transactional_id(id)].transaction
    }

    /// `InitProducerId`: a new epoch, and the end of what is open. False if it is to be asked again.
    pub(crate) fn initialise(&mut self, topic: &Topic, id: Id) -> bool {
        let producer = topic.transactional_id(id);
        match self.producers[producer].transaction {
            None => {
                self.new_epoch(topic, producer, Some(id));
                true
            }
            Some(_) => {
                self.abort(topic, producer);
                false
            }
        }
    }

    fn new_epoch(&mut self, topic: &Topic, producer: usize, holder: Option<Id>) {
        self.producers[producer].holder = holder;
        self.late.retain(|late| topic.transactional_id(late.by) != producer);
    }

    /// The coordinator ends an open transaction, with a new epoch.
    pub(crate) fn abort(&mut self, topic: &Topic, producer: usize) {
        if self.producers[producer].transaction != Some(Transaction::Open) {
            return;
        }
        self.new_epoch(topic, producer, None);
        self.producers[producer].transaction = Some(Transaction::Aborting);
        for records in &mut self.topics {
            records.retain(|records| records.undecided != Some(producer));
        }
        self.fold();
    }

    /// Records of a transaction arrive. False if the process is fenced.
    pub(crate) fn produce(&mut self, topic: &Topic, id: Id, first: Seq, end: Seq) -> bool {
        let producer = topic.transactional_id(id);
        let holds = self.open(topic, id, first);
        if holds {
            self.topics[STREAM_OF[id]].push(Records { first, end, undecided: Some(producer) });
        }
        holds
    }

    /// A checkpoint arrives. False if the process is fenced.
    pub(crate) fn produce_checkpoint(&mut self, topic: &Topic, id: Id, next: Seq) -> bool {
        let producer = topic.transactional_id(id);
        let inside = topic.rules.checkpoint_in_transaction;
        if inside && !self.open(topic, id, next) {
            return false;
        }
        let undecided = inside.then_some(producer);
        self.checkpoints.push(Record { stream: STREAM_OF[id], next, undecided, read_by: 0 });
        self.fold();
        true
    }

    /// Whatever a transaction sends first opens it.
    fn open(&mut self, topic: &Topic, id: Id, first: Seq) -> bool {
        let holds = self.holds(topic, id);
        let producer = &mut self.producers[topic.transactional_id(id)];
        if holds && producer.transaction.is_none() {
            *producer = Producer { transaction: Some(Transaction::Open), first, ..*producer };
        }
        holds
    }

    /// `EndTxn`: what is open is committed. False if the process is fenced.
    pub(crate) fn commit(&mut self, topic: &Topic, id: Id) -> bool {
        let holds = self.holds(topic, id);
        let producer = topic.transactional_id(id);
        if holds && self.producers[producer].transaction == Some(Transaction::Open) {
            self.producers[producer].transaction = Some(Transaction::Committing);
            let sent = self.topics.iter_mut().flatten();
            sent.filter(|records| records.undecided == Some(producer))
                .for_each(|records| records.undecided = None);
            self.fold();
        }
        holds
    }

    /// A commit arrives that its process has given up.
    pub(crate) fn commit_late(&mut self, topic: &Topic, at: usize) {
        let Late { by, first } = self.late.remove(at);
        let open = self.producers[topic.transactional_id(by)].first;
        if !topic.epoch_per_transaction || open == first {
            self.commit(topic, by);
        }
    }

    /// The partitions are told how a transaction has ended.
    pub(crate) fn mark(&mut self, producer: usize) {
        let committed = self.producers[producer].transaction == Some(Transaction::Committing);
        self.producers[producer].transaction = None;
        self.producers[producer].first = 0;
        let ours = |record: &Record| record.undecided == Some(producer);
        if committed {
            for record in self.checkpoints.iter_mut().filter(|record| ours(record)) {
                record.undecided = None;
                for (id, process) in self.processes.iter_mut().enumerate() {
                    if record.read_by >> id & 1 == 1 && STREAM_OF[id] == record.stream {
                        process.see(*record);
                    }
                }
                record.read_by = 0;
            }
        } else {
            self.checkpoints.retain(|record| !ours(record));
        }
        self.fold();
    }

    /// Folds what is decided into what a reader of committed records has seen.
    fn fold(&mut self) {
        for (records, visible) in self.topics.iter_mut().zip(&mut self.visible) {
            let decided = records.iter().take_while(|records| records.undecided.is_none()).count();
            for Records { first, end, .. } in records.drain(..decided) {
                self.broken |= first != *visible;
                *visible = end;
            }
        }
        let records = &mut self.checkpoints;
        let decided = records.iter().take_while(|record| record.undecided.is_none()).count();
        for Record { stream, next, .. } in records.drain(..decided) {
            self.backwards |= next <= self.stable[stream];
            self.stable[stream] = next;
        }
    }
}
