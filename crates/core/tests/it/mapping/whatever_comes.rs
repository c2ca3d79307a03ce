//! No event and no file makes it panic, and what comes out is sound.

use proptest::prelude::*;
use tailwater_core::bson::Doc;
use tailwater_core::event::ChangeEvent;
use tailwater_core::json_column::text;
use tailwater_core::mapping::{Mapped, Mapping, Outcome};

use super::{Host, entry, normalized, with_entry, with_images};
use crate::sample;

/// A mapping that asks for much, with names that the samples have.
fn greedy() -> Mapping {
    let text = r#"
event_type_override: { when: "$exists(a.b)", value: "$toLower($type(a))", else: "$concat('x', $type(b))" }
tags: [a, "`a.b`", b.a, { t: "$type(c)" }]
attrs:
  - c
  - d.a.b
  - x1: "$cond($lt(a, b), a, b)"
  - x2: "$ifNull(a.a, b.b, c.c, d.d, 'none')"
  - x3: "$in(a, [1, 'a', null])"
  - x4: "$cond($in($type(a), ['int', 'long', 'double']), $multiply(a, a), 0)"
  - x5: "$cond($eq($type(b), 'array'), $size(b), -1)"
drops: [d.b]
pii: [b.c, c]
ts: a
"#;
    entry(text)
}

proptest! {
    #[test]
    fn no_event_makes_it_panic(
        document in sample::fields(), before in sample::fields(), op in "insert|update|delete",
        cut in any::<prop::sample::Index>(), noise in any::<u8>(),
    ) {
        let mapping = greedy();
        let images = [sample::bytes(&document), sample::bytes(&before)];
        let whole = with_images(&op, &images);
        let event = ChangeEvent::index(whole.clone().into()).unwrap();
        let Mapped { event: redacted, outcome } = mapping.apply(&event).unwrap();
        redacted.document().unwrap().validate().unwrap();
        if let Outcome::Normalized(normalized) = &outcome {
            normalized.tags.document().validate().unwrap();
            normalized.attrs.document().validate().unwrap();
        }
        let again = mapping.apply(&event).unwrap();
        prop_assert_eq!(format!("{outcome:?}"), format!("{:?}", again.outcome));
        // And with a byte of noise in it.
        let mut broken = whole;
        let at = cut.index(broken.len());
        broken[at] = noise;
        if let Ok(event) = ChangeEvent::index(broken.into()) {
            mapping.apply(&event).ok();
        }
    }

    #[test]
    fn without_a_list_attrs_are_those_of_a_row_without_a_mapping(document in sample::fields()) {
        let image = sample::bytes(&document);
        let event = ChangeEvent::index(with_images("insert", &[image.clone(), vec![5, 0, 0, 0, 0]]).into());
        let found = normalized(&entry("raw: true"), &event.unwrap());
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        text::document(found.attrs.document(), &mut ours).unwrap();
        text::scalars(Doc::new(&image).unwrap(), &mut theirs).unwrap();
        prop_assert_eq!(String::from_utf8(ours).unwrap(), String::from_utf8(theirs).unwrap());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[$a-c(),'\\[\\]`.\"0-9 -]{0,24}") {
        let quoted = text.replace('\'', "''");
        let file = with_entry(&format!("ts: '{quoted}'\ntags: ['{quoted}']\npii: ['{quoted}']"));
        Mapping::read("mapping.yaml", &file, &Host).ok();
    }
}
