//! Exclude: takes fields out of change events before anything else sees them, or hides what they
//! hold.
//!
//! An event is rewritten once, as bytes: its images, and what its `updateDescription` tells of the
//! paths. Everything else stays as the server sent it, bit by bit. `documentKey` is never
//! touched: without it an event names no document.
//!
//! A path goes through arrays, as in MongoDB's projections: `a.b` is the `b` of every document in
//! the array `a`.

use std::collections::BTreeMap;

use crate::bson::write::document;
use crate::bson::{BsonError, Doc, Element, MAX_DEPTH, Value};

/// The type byte of a string.
const STRING: u8 = 0x02;

/// The paths that are taken out, by the collections that they are taken out of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exclusions(Vec<Excluded>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Excluded {
    db: Box<[u8]>,
    coll: Box<[u8]>,
    paths: Vec<Path>,
}

/// The names along a path.
pub(crate) type Path = Vec<Box<[u8]>>;

/// Writes the text that stands in the place of a value.
type Hide<'p> = dyn Fn(&Value<'_>, &mut Vec<u8>) -> Result<(), BsonError> + 'p;

/// What becomes of the values at a path.
#[derive(Clone, Copy)]
pub(crate) enum Act<'p> {
    /// They are taken out.
    Remove,
    /// Each scalar becomes the text that this writes of it, and so does each document; an array's
    /// items one by one. Nulls stay.
    Hide(&'p Hide<'p>),
}

/// What is left of a path somewhere below its start, which is never nothing, and what becomes of
/// what is at its end.
#[derive(Clone, Copy)]
pub(crate) struct Rest<'p> {
    pub(crate) names: &'p [Box<[u8]>],
    pub(crate) act: Act<'p>,
}

/// The event with every path of its images treated as told.
///
/// # Errors
/// When the event is not BSON.
pub(crate) fn rewrite(event: Doc<'_>, paths: &[Rest<'_>]) -> Result<Vec<u8>, BsonError> {
    let mut out = Vec::with_capacity(event.as_bytes().len());
    document(&mut out, |out| {
        each(event, |element, raw| match (element.key, element.value) {
            (b"fullDocument" | b"fullDocumentBeforeChange", Value::Document(image)) => {
                head(out, element, raw);
                strip(image, paths, out, MAX_DEPTH)
            }
            (b"updateDescription", Value::Document(description)) => {
                head(out, element, raw);
                describe(description, paths, out)
            }
            _ => copy(out, raw),
        })
    })?;
    Ok(out)
}

impl Exclusions {
    /// Reads `db.coll` → paths. What names no collection or no field excludes nothing: the config
    /// refuses it.
    pub fn new(fields: &BTreeMap<String, Vec<String>>) -> Self {
        let path = |path: &String| path.split('.').map(|name| name.as_bytes().into()).collect();
        let entries = fields.iter().filter_map(|(entry, paths)| {
            let (db, coll) = entry.split_once('.')?;
            let paths = paths.iter().filter(|text| !text.is_empty()).map(path).collect();
            Some(Excluded { db: db.as_bytes().into(), coll: coll.as_bytes().into(), paths })
        });
        Self(entries.collect())
    }

    /// Whether nothing is excluded anywhere.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The event without what is excluded; `None` where nothing is excluded from its collection.
    ///
    /// # Errors
    /// When the event is not BSON.
    pub fn apply(&self, event: Doc<'_>) -> Result<Option<Vec<u8>>, BsonError> {
        let paths = self.of(event)?;
        if paths.is_empty() {
            return Ok(None);
        }
        rewrite(event, &paths).map(Some)
    }

    fn of(&self, event: Doc<'_>) -> Result<Vec<Rest<'_>>, BsonError> {
        let Some(Value::Document(ns)) = event.get(b"ns")? else { return Ok(Vec::new()) };
        let (Some(Value::String(db)), Some(Value::String(coll))) =
            (ns.get(b"db")?, ns.get(b"coll")?)
        else {
            return Ok(Vec::new());
        };
        let here = self.0.iter().filter(|entry| *entry.db == *db && *entry.coll == *coll);
        let rest = |path| Rest { names: Vec::as_slice(path), act: Act::Remove };
        Ok(here.flat_map(|entry| entry.paths.iter().map(rest)).collect())
    }
}

/// What becomes of a field.
enum Fate<'p> {
    Out,
    Hidden(Act<'p>),
    /// It stays, but for these paths below it.
    Stays(Vec<Rest<'p>>),
}

/// What becomes of the field `name` where `paths` begin. What is taken out need not be hidden.
fn step<'p>(paths: &[Rest<'p>], name: &[u8]) -> Fate<'p> {
    let mut below = Vec::new();
    let mut hidden = None;
    for path in paths {
        match path.names.split_first() {
            Some((first, [])) if **first == *name => match path.act {
                Act::Remove => return Fate::Out,
                Act::Hide(_) => hidden = Some(path.act),
            },
            Some((first, names)) if **first == *name => below.push(Rest { names, ..*path }),
            _ => {}
        }
    }
    hidden.map_or(Fate::Stays(below), Fate::Hidden)
}

/// What becomes of what a dotted path of an `updateDescription` names. A number in it may be a place
/// in an array, over which paths pass, or a field's name: both count.
fn follow<'p>(paths: &[Rest<'p>], dotted: &[u8]) -> Fate<'p> {
    let mut at = paths.to_vec();
    let mut hidden = None;
    for (depth, name) in dotted.split(|byte| *byte == b'.').enumerate() {
        let place = depth > 0 && !name.is_empty() && name.iter().all(u8::is_ascii_digit);
        // Below what is hidden there are items, each hidden as such, and parts of a document that is
        // hidden as a whole.
        match hidden {
            Some(_) if place => continue,
            Some(_) => return Fate::Out,
            None => {}
        }
        let mut below = match step(&at, name) {
            Fate::Out => return Fate::Out,
            Fate::Hidden(act) => {
                hidden = Some(act);
                continue;
            }
            Fate::Stays(below) => below,
        };
        // Only paths that have begun can be inside an array.
        if place {
            below.extend(at);
        }
        at = below;
    }
    hidden.map_or(Fate::Stays(at), Fate::Hidden)
}

fn describe(description: Doc<'_>, paths: &[Rest<'_>], out: &mut Vec<u8>) -> Result<(), BsonError> {
    let out_of_it = |dotted: &[u8]| matches!(follow(paths, dotted), Fate::Out);
    document(out, |out| {
        each(description, |element, raw| match (element.key, element.value) {
            (b"updatedFields", Value::Document(fields)) => {
                head(out, element, raw);
                document(out, |out| {
                    each(fields, |element, raw| match follow(paths, element.key) {
                        Fate::Out => Ok(()),
                        Fate::Hidden(act) => hide(element, raw, act, out, MAX_DEPTH),
                        Fate::Stays(below) => value(element, raw, &below, out, MAX_DEPTH),
                    })
                })
            }
            (b"disambiguatedPaths", Value::Document(fields)) => {
                head(out, element, raw);
                document(out, |out| {
                    each(fields, |element, raw| match out_of_it(element.key) {
                        true => Ok(()),
                        false => copy(out, raw),
                    })
                })
            }
            (b"removedFields" | b"truncatedArrays", Value::Array(entries)) => {
                head(out, element, raw);
                let mut kept = 0_u32;
                document(out, |out| {
                    each(entries, |element, raw| {
                        let dotted = match element.value {
                            Value::Document(entry) => entry.get(b"field")?,
                            value => Some(value),
                        };
                        if matches!(dotted, Some(Value::String(dotted)) if out_of_it(dotted)) {
                            return Ok(());
                        }
                        out.push(raw[0]);
                        out.extend_from_slice(itoa::Buffer::new().format(kept).as_bytes());
                        kept += 1;
                        // From the end of the name on: its terminator, and the value.
                        copy(out, &raw[1 + element.key.len()..])
                    })
                })
            }
            _ => copy(out, raw),
        })
    })
}

/// A document without `paths`.
fn strip(
    doc: Doc<'_>,
    paths: &[Rest<'_>],
    out: &mut Vec<u8>,
    levels: usize,
) -> Result<(), BsonError> {
    let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
    document(out, |out| {
        each(doc, |element, raw| match step(paths, element.key) {
            Fate::Out => Ok(()),
            Fate::Hidden(act) => hide(element, raw, act, out, levels),
            Fate::Stays(below) => value(element, raw, &below, out, levels),
        })
    })
}

/// An element that stays, without the paths below it.
fn value(
    element: Element<'_>,
    raw: &[u8],
    below: &[Rest<'_>],
    out: &mut Vec<u8>,
    levels: usize,
) -> Result<(), BsonError> {
    match element.value {
        _ if below.is_empty() => copy(out, raw),
        Value::Document(inner) => {
            head(out, element, raw);
            strip(inner, below, out, levels)
        }
        Value::Array(inner) => {
            head(out, element, raw);
            let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
            document(out, |out| each(inner, |place, raw| value(place, raw, below, out, levels)))
        }
        _ => copy(out, raw),
    }
}

/// An element whose values are hidden.
fn hide(
    element: Element<'_>,
    raw: &[u8],
    act: Act<'_>,
    out: &mut Vec<u8>,
    levels: usize,
) -> Result<(), BsonError> {
    let Act::Hide(write) = act else { return Ok(()) };
    match element.value {
        Value::Null | Value::Undefined => copy(out, raw),
        Value::Array(inner) => {
            head(out, element, raw);
            let levels = levels.checked_sub(1).ok_or(BsonError::too_deep())?;
            document(out, |out| each(inner, |item, raw| hide(item, raw, act, out, levels)))
        }
        _ => {
            out.push(STRING);
            out.extend_from_slice(element.key);
            let start = out.len() + 1;
            out.extend_from_slice(&[0; 5]);
            write(&element.value, out)?;
            out.push(0);
            let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
            out[start..start + 4].copy_from_slice(&length.to_le_bytes());
            Ok(())
        }
    }
}

/// Calls `take` with every element and its bytes.
pub(crate) fn each<'d, E: From<BsonError>>(
    doc: Doc<'d>,
    mut take: impl FnMut(Element<'d>, &'d [u8]) -> Result<(), E>,
) -> Result<(), E> {
    let bytes = doc.as_bytes();
    // An element begins one byte, its type, before its name.
    let start = |element: &Element<'_>| {
        (element.key.as_ptr() as usize).wrapping_sub(bytes.as_ptr() as usize).wrapping_sub(1)
    };
    let mut elements = doc.elements().peekable();
    while let Some(element) = elements.next() {
        let element = element?;
        let end = match elements.peek() {
            Some(Ok(next)) => start(next),
            Some(Err(error)) => return Err((*error).into()),
            None => bytes.len() - 1,
        };
        take(element, &bytes[start(&element)..end])?;
    }
    Ok(())
}

/// The type and the name of an element.
fn head(out: &mut Vec<u8>, element: Element<'_>, raw: &[u8]) {
    out.extend_from_slice(&raw[..element.key.len() + 2]);
}

fn copy(out: &mut Vec<u8>, raw: &[u8]) -> Result<(), BsonError> {
    out.extend_from_slice(raw);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, Document, doc};
    use proptest::prelude::*;

    fn exclude(event: &Document, entry: &str, paths: &[&str]) -> Option<Document> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let exclusions = Exclusions::new(&BTreeMap::from([(entry.to_owned(), paths)]));
        let bytes = event.to_vec().unwrap();
        let out = exclusions.apply(Doc::new(&bytes).unwrap()).unwrap()?;
        Doc::new(&out).unwrap().validate().unwrap();
        Some(Document::from_reader(out.as_slice()).unwrap())
    }

    fn event(fields: Document) -> Document {
        let mut event = doc! { "_id": { "_data": "82" }, "ns": { "db": "d", "coll": "c" } };
        event.extend(fields);
        event
    }

    #[test]
    fn an_image_loses_the_path_also_within_arrays() {
        let image = doc! {
            "_id": 1, "b": 1, "a": { "b": 1, "c": 2 },
            "list": [{ "b": 1, "c": 2 }, 7, [{ "b": 3, "c": 4 }]],
        };
        let before =
            event(doc! { "fullDocument": image.clone(), "fullDocumentBeforeChange": image,
            "documentKey": { "_id": 1, "b": 1 } });
        let image = doc! {
            "_id": 1, "a": { "c": 2 }, "list": [{ "c": 2 }, 7, [{ "c": 4 }]],
        };
        let after = event(doc! { "fullDocument": image.clone(), "fullDocumentBeforeChange": image,
        "documentKey": { "_id": 1, "b": 1 } });
        assert_eq!(exclude(&before, "d.c", &["b", "a.b", "list.b"]), Some(after));
    }

    #[test]
    fn an_update_tells_nothing_of_an_excluded_path() {
        let before = event(doc! { "updateDescription": {
            "updatedFields": {
                "b": 1, "b.x": 1, "bb": 1, "a": { "b": 1, "c": 2 }, "a.b": 1, "a.b.c": 1, "a.bb": 1,
                "a.0": { "b": 1, "c": 2 }, "a.0.b": 1, "a.0.c": [{ "b": 1 }], "0": { "b": 1 },
            },
            "removedFields": ["x", "b", "a.b.c", "a.1.b", "y"],
            "truncatedArrays": [{ "field": "b", "newSize": 1 }, { "field": "a", "newSize": 2 }],
            "disambiguatedPaths": { "a.0.b": ["a", "0", "b"], "a.0.c": ["a", "0", "c"] },
        } });
        let after = event(doc! { "updateDescription": {
            "updatedFields": {
                "bb": 1, "a": { "c": 2 }, "a.bb": 1,
                "a.0": { "c": 2 }, "a.0.c": [{ "b": 1 }], "0": { "b": 1 },
            },
            "removedFields": ["x", "y"],
            "truncatedArrays": [{ "field": "a", "newSize": 2 }],
            "disambiguatedPaths": { "a.0.c": ["a", "0", "c"] },
        } });
        assert_eq!(exclude(&before, "d.c", &["b", "a.b"]), Some(after));
    }

    #[test]
    fn only_the_named_collections_lose_something() {
        let event = event(doc! { "fullDocument": { "a": 1 } });
        for entry in ["d.x", "e.c", "d.c.x", "dc"] {
            assert_eq!(exclude(&event, entry, &["a"]), None, "{entry}");
        }
        assert!(exclude(&event, "d.c", &["a"]).is_some_and(|out| out != event));
    }

    /// The same rule over the `bson` crate's values.
    fn without(value: Bson, path: &[&str]) -> Bson {
        match value {
            Bson::Document(fields) => Bson::Document(
                fields
                    .into_iter()
                    .filter(|(name, _)| path != [name.as_str()])
                    .map(|(name, value)| match path {
                        [first, rest @ ..] if *first == name => (name, without(value, rest)),
                        _ => (name, value),
                    })
                    .collect(),
            ),
            Bson::Array(values) => {
                Bson::Array(values.into_iter().map(|value| without(value, path)).collect())
            }
            scalar => scalar,
        }
    }

    fn values() -> impl Strategy<Value = Bson> {
        let scalar = prop_oneof![
            any::<i32>().prop_map(Bson::Int32),
            ".{0,4}".prop_map(Bson::String),
            Just(Bson::Null),
            any::<bool>().prop_map(Bson::Boolean),
        ];
        scalar.prop_recursive(5, 60, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
                prop::collection::vec(("[abc0]", inner), 0..5)
                    .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_left_is_what_the_rule_leaves(
            fields in prop::collection::vec(("[abc0]", values()), 0..5),
            path in prop::collection::vec("[abc0]", 1..4),
        ) {
            let image: Document = fields.into_iter().collect();
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            let before = event(doc! { "fullDocument": image.clone(), "x": image.clone() });
            let left = without(Bson::Document(image.clone()), &names);
            let after = event(doc! { "fullDocument": left, "x": image });
            prop_assert_eq!(exclude(&before, "d.c", &[&names.join(".")]), Some(after));
        }

        #[test]
        fn bytes_that_are_no_event_do_not_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let whole = event(doc! { "fullDocument": { "a": { "b": 1 } } }).to_vec().unwrap();
            let exclusions =
                Exclusions::new(&BTreeMap::from([("d.c".to_owned(), vec!["a.b".to_owned()])]));
            for (at, byte) in whole.into_iter().enumerate() {
                match bytes.get_mut(at) {
                    Some(noise) if *noise < 200 => *noise = byte,
                    Some(_) => {}
                    None => bytes.push(byte),
                }
            }
            if let Ok(doc) = Doc::new(&bytes) {
                drop(exclusions.apply(doc));
            }
        }
    }
}
