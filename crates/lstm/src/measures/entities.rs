//! Exact entities, as `conlleval` counts them (Tjong Kim Sang & Buchholz 2000): one is right if its first word, its last word and its type are.

use std::collections::BTreeMap;

use super::classes::ClassScore;

/// An entity: the first word, the word after the last, the type.
pub type Entity<'a> = (usize, usize, &'a str);

/// The prefix and the type of a label: `B-PER` begins a PER, `I-PER` is within one, `O` is outside.
fn parts(label: &str) -> (char, &str) {
    match label.split_once('-') {
        Some((prefix, kind)) if prefix.chars().count() == 1 => (prefix.chars().next().unwrap_or('O'), kind),
        _ => ('O', ""),
    }
}

/// Whether these are labels of entities: each is O, or begins with B-, I-, E- or S-, and one is no O.
pub fn are_entities<'a>(labels: impl Iterator<Item = &'a str>) -> bool {
    let mut any = false;
    let all = labels.into_iter().all(|label| {
        let (prefix, kind) = parts(label);
        any |= !kind.is_empty();
        label == "O" || "BIES".contains(prefix) && !kind.is_empty()
    });
    all && any
}

/// The entities of a sentence's labels. One that begins with I, or whose type changes within, is taken as `conlleval` takes it: another
/// begins there.
pub fn entities<'a>(labels: &[&'a str]) -> Vec<Entity<'a>> {
    let mut found = Vec::new();
    let mut open: Option<(usize, &str)> = None;
    let mut before = ('O', "");
    for (at, label) in labels.iter().copied().chain(["O"]).enumerate() {
        let (prefix, kind) = parts(label);
        let ends = matches!(before.0, 'E' | 'S') || matches!(prefix, 'B' | 'S' | 'O') || kind != before.1;
        if let Some((start, kind)) = open.take_if(|_| ends) {
            found.push((start, at, kind));
        }
        let begins = matches!(prefix, 'B' | 'S') || matches!(before.0, 'E' | 'S' | 'O') || kind != before.1;
        if prefix != 'O' && begins {
            open = Some((at, kind));
        }
        before = (prefix, kind);
    }
    found
}

/// How many entities of each type there are, were found, and are right.
#[derive(Clone, Debug, Default)]
pub struct EntityMeasures {
    of_types: BTreeMap<String, [u64; 3]>,
}

impl EntityMeasures {
    /// Adds a sentence: the labels that are right, and those that were predicted.
    pub fn add(&mut self, right: &[&str], predicted: &[&str]) {
        let (right, predicted) = (entities(right), entities(predicted));
        for (list, which) in [(&right, 0), (&predicted, 1)] {
            for (.., kind) in list {
                self.of_types.entry((*kind).to_owned()).or_default()[which] += 1;
            }
        }
        for entity in predicted.iter().filter(|entity| right.contains(entity)) {
            self.of_types.entry(entity.2.to_owned()).or_default()[2] += 1;
        }
    }

    fn score([right, found, hits]: [u64; 3]) -> ClassScore {
        ClassScore::of(hits, found - hits, right - hits)
    }

    /// Of all types together: what `conlleval` says first.
    pub fn all(&self) -> ClassScore {
        let mut all = [0; 3];
        for counts in self.of_types.values() {
            (0..3).for_each(|at| all[at] += counts[at]);
        }
        Self::score(all)
    }

    /// Of each type, in the order of their names.
    pub fn of_types(&self) -> impl Iterator<Item = (&str, ClassScore)> {
        self.of_types.iter().map(|(kind, counts)| (kind.as_str(), Self::score(*counts)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_those_of_conlleval() {
        let of = |text: &str| entities(&text.split(' ').collect::<Vec<_>>()).len();
        assert_eq!(entities(&["B-A", "I-A", "O", "I-B"]), [(0, 2, "A"), (3, 4, "B")]);
        // A type that changes, and B after I, begin another one.
        assert_eq!(entities(&["B-A", "I-B", "B-B"]), [(0, 1, "A"), (1, 2, "B"), (2, 3, "B")]);
        assert_eq!(entities(&["S-A", "B-A", "I-A", "E-A", "I-A"]), [(0, 1, "A"), (1, 4, "A"), (4, 5, "A")]);
        assert_eq!([of("O O"), of("I-A I-A"), of("B-A B-A"), of("I-A O I-A")], [0, 1, 2, 2]);
        assert!(are_entities(["B-A", "O"].into_iter()) && !are_entities(["NN", "O"].into_iter()));
        assert!(!are_entities(["O"].into_iter()));
    }

    #[test]
    fn an_entity_is_right_whole_or_not_at_all() {
        let mut measures = EntityMeasures::default();
        measures.add(&["B-A", "I-A", "O", "B-B"], &["B-A", "O", "O", "B-B"]);
        measures.add(&["O", "B-A"], &["O", "B-A"]);
        let all = measures.all();
        assert_eq!((all.support, all.precision, all.recall), (3, 2.0 / 3.0, 2.0 / 3.0));
        let of_types: Vec<_> = measures.of_types().map(|(kind, score)| (kind, score.support, score.f1)).collect();
        assert_eq!(of_types, [("A", 2, 0.5), ("B", 1, 1.0)]);
    }
}
