//! Notes on how a text was read, in sentences.

use lstm::run::config::DataConfig;
use lstm::text::corpus::Corpus;
use lstm::text::documents::LineEnds;
use lstm::text::shuffle::Sorted;
use lstm::text::tokenizer::{Tokenizer, TokenizerKind};
use lstm::train::data::Note;

use crate::output::{count, grouped};

/// The sentence of a note, with the option that mends what it is about.
pub fn sentence(note: &Note) -> String {
    match note {
        Note::ValidIsTrain { lines } => format!(
            "the validation text is the training text itself ({}), so it says nothing of other texts",
            count(*lines as u64, "line")
        ),
        Note::ValidHeldOut => {
            "there is no validation text, so some of the training text is held out for it; --valid gives another"
                .to_owned()
        }
        Note::AllOver { files } => {
            format!("validation and test are pieces from all over the {files} files; --valid and --test give others")
        }
        Note::EndOfLastFile => {
            "validation and test are the end of the last file; --valid and --test give others".to_owned()
        }
        Note::Sorted(sorted) => {
            let by = match sorted {
                Sorted::ByLetter => "in alphabetical order",
                Sorted::ByNumber => "in the order of their numbers",
            };
            format!(
                "the lines are {by}, so validation and test, its end, are unlike the rest; --shuffle lines mixes them"
            )
        }
        Note::CarriageReturns { lines, of, kept } => {
            let which = format!(
                "{} of {} lines end with a carriage return and a line feed",
                grouped(*lines as u64),
                grouped(*of as u64)
            );
            match kept {
                LineEnds::Lf => format!("{which}, which are read as a line feed; --line-ends keep reads both"),
                LineEnds::Keep => format!("{which}, which are both read; --line-ends lf reads a line feed"),
            }
        }
    }
}

/// Whether the lines of a text that a model is measured on end otherwise than those it was trained on. data: of the run.
pub fn of_line_ends(data: &DataConfig, tokenizer: &Tokenizer, corpus: &Corpus) -> Option<String> {
    if tokenizer.kind() == TokenizerKind::Words {
        return None;
    }
    let has_returns = 2 * corpus.crlf > corpus.lines;
    let said = |returns| if returns { "a carriage return and a line feed" } else { "a line feed" };
    if data.line_ends == LineEnds::Lf {
        let note =
            "its lines end with a carriage return and a line feed, which are read as a line feed, as in training";
        return has_returns.then(|| note.to_owned());
    }
    // A run from before this was recorded tells by its characters.
    let known = || (tokenizer.kind() == TokenizerKind::Chars).then(|| tokenizer.id("\r").is_some());
    let trained = data.crlf.or_else(known)?;
    (trained != has_returns).then(|| {
        format!(
            "its lines end with {}, but those of the training text with {}: the figures are worse for it",
            said(has_returns),
            said(trained)
        )
    })
}
