//! A label as policies name it, ready to be asked of every chunk. Unlike filters, labels are compared as they are
//! spelled.

use crate::fold::fold;
use crate::pairs::Pairs;
use crate::pattern::Pattern;
use crate::plan::PairField;
use crate::posting::Union;
use dir_core::policy::label_fits;
use roaring::RoaringBitmap;

/// One label, or all below it.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub(crate) field: PairField,
    /// The label without the word of its field, with `*` at the end for all below.
    wanted: String,
    /// What finds every text that may be meant.
    near: [Pattern; 1],
}

impl Label {
    /// `None` for a label that no record can have.
    pub(crate) fn of(label: &str) -> Option<Self> {
        let fields = [
            ("/skills/", PairField::Skill),
            ("/domains/", PairField::Domain),
            ("/modules/", PairField::Module),
            ("/locators/", PairField::Locator),
        ];
        let (wanted, field) =
            fields.into_iter().find_map(|(word, field)| Some((label.strip_prefix(word)?, field)))?;
        let near = match wanted.strip_suffix('*') {
            Some(above) => Pattern::Prefix(fold(above)),
            None => Pattern::Exact(fold(wanted)),
        };
        Some(Self { field, wanted: wanted.to_owned(), near: [near] })
    }

    /// The records with it. `rows` are those of its field.
    pub(crate) fn select(&self, rows: &Pairs) -> RoaringBitmap {
        let texts = if self.field == PairField::Locator { &rows.left } else { &rows.right };
        let mut union = Union::default();
        texts.for_each_match(&self.near, None, |id| {
            if label_fits(&self.wanted, &texts.text(id)) {
                union.add_slots(texts.slots(id));
            }
        });
        union.finish()
    }
}
