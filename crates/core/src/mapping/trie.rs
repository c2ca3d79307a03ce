//! Trie: the paths that a mapping entry asks for, filled by one walk over the event.

use super::value::{self, Term};
use crate::bson::{BsonError, Doc, MAX_DEPTH, Value};
use crate::exclude::Path;

/// The number of a path's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) usize);

/// The values of all paths.
pub(super) type Slots<'a> = Vec<Term<'a>>;

/// Paths, by their names.
#[derive(Debug, Default)]
pub(super) struct Trie {
    name: Box<[u8]>,
    slots: Vec<Slot>,
    below: Vec<Trie>,
}

impl Trie {
    /// Asks for a path.
    pub(super) fn add(&mut self, path: &[Box<[u8]>], slot: Slot) {
        let Some((first, rest)) = path.split_first() else {
            self.slots.push(slot);
            return;
        };
        let at = match self.below.iter().position(|node| node.name == *first) {
            Some(at) => at,
            None => {
                self.below.push(Self { name: first.clone(), ..Self::default() });
                self.below.len() - 1
            }
        };
        self.below[at].add(rest, slot);
    }

    /// Fills the slots from a document. Of equal names the last wins.
    ///
    /// # Errors
    /// When something on the way is not BSON.
    pub(super) fn walk<'a>(&self, doc: Doc<'a>, slots: &mut Slots<'a>) -> Result<(), BsonError> {
        self.descend(doc, slots, MAX_DEPTH)
    }

    fn descend<'a>(
        &self,
        doc: Doc<'a>,
        slots: &mut Slots<'a>,
        levels: usize,
    ) -> Result<(), BsonError> {
        if self.below.is_empty() {
            return Ok(());
        }
        let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
        for element in doc.elements() {
            let element = element?;
            let Some(node) = self.below.iter().find(|node| *node.name == *element.key) else {
                continue;
            };
            node.clear(slots);
            for Slot(slot) in &node.slots {
                slots[*slot] = Term::Is(element.value);
            }
            match element.value {
                Value::Document(inner) => node.descend(inner, slots, levels)?,
                Value::Array(items) => node.gather(items, slots, levels)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn clear(&self, slots: &mut Slots<'_>) {
        for node in &self.below {
            for Slot(slot) in &node.slots {
                slots[*slot] = Term::Missing;
            }
            node.clear(slots);
        }
    }

    /// A path through an array is the array of what it leads to in each of the documents there, as
    /// in MongoDB's expressions; arrays within the array are passed over.
    fn gather<'a>(
        &self,
        items: Doc<'a>,
        slots: &mut Slots<'a>,
        levels: usize,
    ) -> Result<(), BsonError> {
        let mut paths = Vec::new();
        self.below(&mut Path::new(), &mut paths);
        for (path, Slot(slot)) in paths {
            slots[slot] = through(items, &path, levels)?;
        }
        Ok(())
    }

    fn below(&self, at: &mut Path, paths: &mut Vec<(Path, Slot)>) {
        for node in &self.below {
            at.push(node.name.clone());
            paths.extend(node.slots.iter().map(|slot| (at.clone(), *slot)));
            node.below(at, paths);
            at.pop();
        }
    }
}

fn through<'a>(items: Doc<'a>, path: &[Box<[u8]>], levels: usize) -> Result<Term<'a>, BsonError> {
    let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
    let mut found = Vec::new();
    for item in items.elements() {
        if let Value::Document(doc) = item?.value {
            found.push(resolve(doc, path, levels)?);
        }
    }
    value::array(found.iter().filter_map(Term::value)).map(Term::Array)
}

fn resolve<'a>(doc: Doc<'a>, path: &[Box<[u8]>], levels: usize) -> Result<Term<'a>, BsonError> {
    let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
    let Some((first, rest)) = path.split_first() else { return Ok(Term::Missing) };
    let mut found = None;
    for element in doc.elements() {
        let element = element?;
        if *element.key == **first {
            found = Some(element.value);
        }
    }
    match found {
        Some(value) if rest.is_empty() => Ok(Term::Is(value)),
        Some(Value::Document(inner)) => resolve(inner, rest, levels),
        Some(Value::Array(items)) => through(items, rest, levels),
        _ => Ok(Term::Missing),
    }
}
