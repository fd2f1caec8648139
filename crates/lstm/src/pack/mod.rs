//! A text as a model tells it: every token by arithmetic coding in the bits of its surprisal (Shannon 1948; Witten, Neal &
//! Cleary 1987), and back, byte for byte.
//!
//! So the size of the file is the model's figure on the text, and a proof of it: a model that had peeked at a token before it
//! said its probability could not read it back. A reader needs the same model and the same instruction set, whose bits do
//! not depend on threads.
//!
//! A model may go on learning from the text while it tells it (dynamic evaluation, `adapt/dynamic.rs`): reader and writer learn the same
//! from what both know by then. The file says how; the scale of the gradients both find in the text that the model was trained on.
//!
//! A line is coded as its end, its way, and what it holds: the tokens, each in turn by the model's own probabilities, an
//! unknown word by its spelling; the white space between them, where that is not what the tokenizer would write; or, where
//! the tokens do not tell the line at all, its bytes.

mod learning;
mod line;

use thiserror::Error;

use self::learning::Learning;
use self::line::{Line, LineModel};
use crate::adapt::dynamic::GradientScale;
use crate::adapt::settings::DynamicSettings;
use crate::coder::{Coder, Decoder, Encoder, exponential};
use crate::model::{LanguageModel, TokenStream};
use crate::nn::config::ConfigError;
use crate::nn::params::Params;
use crate::text::batch::Batching;
use crate::text::tokenizer::Tokenizer;

/// How a packed file begins, with the version of its form.
const MAGIC: &[u8; 5] = b"LSTM\x01";

/// The same of a model that goes on learning.
const LEARNING: &[u8; 5] = b"LSTM\x02";

/// A text that cannot be packed, or a file that cannot be unpacked.
#[derive(Debug, Error)]
pub enum PackError {
    /// A model that cannot say the first tokens of a text.
    #[error(
        "a model of `batches` windows({0}) predicts a token from the {0} before it, so it says nothing of a line's first {0} \
         and cannot pack a text; take a model of stream or lines"
    )]
    Windows(usize),
    /// A model that cannot be run token by token.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Bytes that are no packed text.
    #[error("it is no packed text: {0}")]
    Foreign(&'static str),
    /// Another model, or this one trained on.
    #[error("it was packed with another model; give the one it was packed with, which is unchanged since then")]
    OtherModel,
    /// Another instruction set, whose bits differ.
    #[error(
        "it was packed with the kernels of {packed}, whose last bits differ from those of {here} that run here; set LSTM_ISA={packed}, on a \
         processor that has them"
    )]
    OtherKernels {
        /// Those of the file.
        packed: String,
        /// Those in use.
        here: &'static str,
    },
    /// A model that goes on learning, in more columns than a text is told in.
    #[error("a text is packed in its order, which is one column; `dynamic-columns` is {0}, leave it out")]
    Columns(usize),
    /// A text that was packed by a model that went on learning, for one that does not.
    #[error(
        "it was packed by a model that went on learning while it read, from the scale of its gradients on the text that it was trained on; \
         give the run folder that knows that text"
    )]
    NeedsScale,
    /// Another text of training, whose gradients have another scale.
    #[error(
        "it was packed by a model that went on learning by the scale of its gradients on another training text; restore that"
    )]
    OtherScale,
    /// Bytes that changed, or that are not all there.
    #[error("it is damaged: what comes out is not what was packed ({0}); get it again from where it is from")]
    Damaged(&'static str),
}

/// A model that packs and unpacks texts.
pub struct Packer<'a> {
    tokenizer: &'a Tokenizer,
    stream: TokenStream<'a>,
    /// Whether every line is read from a fresh state.
    by_line: bool,
    /// Tells this model from others.
    checksum: u32,
    model: &'a LanguageModel,
    params: &'a Params,
    /// How it goes on learning, if it does.
    learning: Option<(&'a GradientScale, DynamicSettings)>,
}

impl<'a> Packer<'a> {
    /// A packer with the model of a run.
    ///
    /// # Errors
    /// A model of windows, or one that cannot be run token by token.
    pub fn new(
        model: &'a LanguageModel,
        params: &'a Params,
        tokenizer: &'a Tokenizer,
        batching: Batching,
    ) -> Result<Self, PackError> {
        let by_line = match batching {
            Batching::Stream => false,
            Batching::Lines => true,
            Batching::Windows(n) => return Err(PackError::Windows(n)),
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytemuck::cast_slice(params.values()));
        hasher.update(tokenizer.fingerprint().as_bytes());
        let (stream, checksum) = (model.stream(params, 1)?, hasher.finalize());
        Ok(Self { tokenizer, stream, by_line, checksum, model, params, learning: None })
    }

    /// The same with a model that goes on learning from the text while it packs it.
    ///
    /// # Errors
    /// Settings of several columns.
    pub fn learning(mut self, scale: &'a GradientScale, settings: DynamicSettings) -> Result<Self, PackError> {
        if settings.columns != 1 {
            return Err(PackError::Columns(settings.columns));
        }
        self.learning = Some((scale, settings));
        Ok(self)
    }

    /// How the model that packed a text went on learning, if it did: who unpacks it has to say [`Self::learning`] with these settings.
    ///
    /// # Errors
    /// What is no packed text.
    pub fn learned(packed: &[u8]) -> Result<Option<DynamicSettings>, PackError> {
        if packed.starts_with(MAGIC) {
            return Ok(None);
        }
        let rest = packed.strip_prefix(LEARNING).ok_or(PackError::Foreign("it does not begin as one"))?;
        let (settings, _) = read_settings(rest).ok_or(PackError::Foreign("it ends too early"))?;
        Ok(Some(settings))
    }

    /// Packs the bytes of a text. `watch` is told after each line how many bytes are done.
    pub fn pack(&self, text: &[u8], watch: &mut dyn FnMut(usize)) -> Vec<u8> {
        let isa = lstm_kernels::isa();
        let mut packed = if self.learning.is_some() { LEARNING } else { MAGIC }.to_vec();
        if let Some((scale, settings)) = &self.learning {
            packed.extend(settings.rate.to_le_bytes());
            packed.extend(settings.decay.to_le_bytes());
            packed.extend((settings.segment as u32).to_le_bytes());
            packed.extend(scale.checksum().to_le_bytes());
        }
        packed.push(isa.len() as u8);
        packed.extend(isa.as_bytes());
        packed.extend(self.checksum.to_le_bytes());
        packed.extend((text.len() as u64).to_le_bytes());
        packed.extend(crc32fast::hash(text).to_le_bytes());
        let (mut encoder, mut tokens, mut lines) = (Encoder::new(), self.tokens(), LineModel::new(self.tokenizer));
        let mut done = 0;
        for bytes in text.split_inclusive(|&byte| byte == b'\n') {
            let line = Line::new(self.tokenizer, bytes);
            lines.code(&mut encoder, &mut tokens, Some(&line)).expect("a line is written as it is");
            done += bytes.len();
            watch(done);
        }
        packed.extend(encoder.finish());
        packed
    }

    /// The text that was packed, byte for byte. `watch` is told after each line how many bytes of how many are done.
    ///
    /// # Errors
    /// What is no packed text, was packed with another model or other kernels, or is damaged.
    pub fn unpack(&self, packed: &[u8], watch: &mut dyn FnMut(usize, usize)) -> Result<Vec<u8>, PackError> {
        let (length, sum, packed) = self.opened(packed).ok_or(PackError::Foreign("it does not begin as one"))??;
        let (mut decoder, mut tokens, mut lines) =
            (Decoder::new(packed), self.tokens(), LineModel::new(self.tokenizer));
        let mut text = Vec::new();
        while text.len() < length {
            let line = lines.code(&mut decoder, &mut tokens, None).filter(|_| !decoder.is_over());
            text.extend(line.ok_or(PackError::Damaged("it ends before the text does"))?);
            watch(text.len(), length);
        }
        if text.len() != length || crc32fast::hash(&text) != sum {
            return Err(PackError::Damaged("its checksum is another"));
        }
        Ok(text)
    }

    /// The length and the checksum of the text, and what it is packed in; `None` of what is no packed text.
    #[allow(clippy::type_complexity)]
    fn opened<'b>(&self, packed: &'b [u8]) -> Option<Result<(usize, u32, &'b [u8]), PackError>> {
        let (learned, rest) = match packed.strip_prefix(LEARNING) {
            Some(rest) => {
                let (settings, rest) = read_settings(rest)?;
                let (scale, rest) = rest.split_first_chunk()?;
                (Some((settings, u32::from_le_bytes(*scale))), rest)
            }
            None => (None, packed.strip_prefix(MAGIC)?),
        };
        let (&[letters], rest) = rest.split_first_chunk()?;
        let (isa, rest) = rest.split_at_checked(letters.into())?;
        let isa = std::str::from_utf8(isa).ok()?;
        let (model, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        if u32::from_le_bytes(*model) != self.checksum {
            return Some(Err(PackError::OtherModel));
        }
        if isa != lstm_kernels::isa() {
            let packed = isa.chars().filter(char::is_ascii_alphanumeric).collect();
            return Some(Err(PackError::OtherKernels { packed, here: lstm_kernels::isa() }));
        }
        match (learned, &self.learning) {
            (Some((settings, _)), own) if own.as_ref().is_none_or(|(_, own)| *own != settings) => {
                return Some(Err(PackError::NeedsScale));
            }
            (Some((_, scale)), Some((own, _))) if own.checksum() != scale => return Some(Err(PackError::OtherScale)),
            (None, Some(_)) => return Some(Err(PackError::Foreign("it is of a model that did not go on learning"))),
            _ => {}
        }
        Some(Ok((u64::from_le_bytes(*length) as usize, u32::from_le_bytes(*sum), rest)))
    }

    fn tokens(&self) -> Tokens<'a> {
        let mut stream = self.stream.clone();
        stream.streams_mut().reset(0);
        let (start, sos) = (self.tokenizer.start(), self.tokenizer.sos().filter(|_| self.by_line));
        let learning = self.learning.map(|(scale, settings)| Learning::new(self.model, self.params, scale, settings));
        Tokens { stream, last: sos.unwrap_or(start), sos, frequencies: Vec::new(), learning }
    }
}

/// The settings by which a model went on learning, and what stands behind them.
fn read_settings(bytes: &[u8]) -> Option<(DynamicSettings, &[u8])> {
    let (rate, bytes) = bytes.split_first_chunk()?;
    let (decay, bytes) = bytes.split_first_chunk()?;
    let (segment, bytes) = bytes.split_first_chunk()?;
    let (rate, decay) = (f32::from_le_bytes(*rate), f32::from_le_bytes(*decay));
    let settings = DynamicSettings { rate, decay, segment: u32::from_le_bytes(*segment) as usize, columns: 1 };
    settings.validate().ok().map(|()| (settings, bytes))
}

/// The model, which says what the next token may be and is told which it was.
struct Tokens<'a> {
    stream: TokenStream<'a>,
    /// The token that is to be read next.
    last: u32,
    /// The token that every line begins with, where each is read from a fresh state.
    sos: Option<u32>,
    frequencies: Vec<u64>,
    learning: Option<Learning<'a>>,
}

impl Tokens<'_> {
    fn begin_line(&mut self) {
        if let Some(sos) = self.sos {
            if let Some(changed) = self.learning.as_mut().and_then(|learning| learning.end_line(&self.stream)) {
                self.stream = changed;
            }
            self.stream.streams_mut().reset(0);
            self.last = sos;
        }
    }

    fn code(&mut self, coder: &mut impl Coder, chosen: Option<u32>) -> u32 {
        let logits = self.stream.step(&[self.last]);
        to_frequencies(logits, &mut self.frequencies);
        let read = self.last;
        self.last = coder.symbol(&self.frequencies, chosen.map(|id| id as usize)) as u32;
        if let Some(changed) = self.learning.as_mut().and_then(|learning| learning.note(read, self.last, &self.stream))
        {
            self.stream = changed;
        }
        self.last
    }
}

/// The softmax of logits in whole numbers, each at least 1, that sum to about 2³².
fn to_frequencies(logits: &[f32], frequencies: &mut Vec<u64>) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponential = |logit: &f32| exponential(f64::from(*logit) - f64::from(highest));
    // Kept as the bits of the floating-point numbers until their sum is known.
    frequencies.clear();
    frequencies.extend(logits.iter().map(|logit| exponential(logit).to_bits()));
    let scale = (1u64 << 32) as f64 / frequencies.iter().map(|bits| f64::from_bits(*bits)).sum::<f64>();
    frequencies.iter_mut().for_each(|bits| *bits = 1 + (f64::from_bits(*bits) * scale) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Evaluation;
    use crate::model::LanguageModelConfig;
    use crate::nn::config::Init;
    use crate::text::corpus::Corpus;
    use crate::text::source::Source;
    use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

    const TRAINING: &str = "the cat sees a dog\na dog sees the cat and runs\n the grün cat runs \n\nthe dog\n";

    /// A tokenizer of the training text, and a model with random parameters for it.
    fn model(kind: TokenizerKind, line_markers: bool) -> (Tokenizer, LanguageModel, Params) {
        let options = VocabularyOptions { line_markers, min_count: None, max_size: None };
        let source = Source::from_text(&TRAINING.repeat(40));
        let tokenizer = Tokenizer::build(kind, &source, options, false).unwrap();
        let model = LanguageModel::new(LanguageModelConfig::new(tokenizer.vocabulary_size(), 5, 6)).unwrap();
        let mut params = model.initialise(&Init::default(), 3);
        params.values_mut().iter_mut().for_each(|value| *value *= 3.0);
        (tokenizer, model, params)
    }

    fn all() -> impl Iterator<Item = (TokenizerKind, Batching)> {
        use TokenizerKind::{Bpe, Bytes, Chars, Unigram, Wordpiece, Words};
        let kinds = [Words, Chars, Bytes, Bpe, Unigram, Wordpiece];
        kinds.into_iter().flat_map(|kind| [(kind, Batching::Stream), (kind, Batching::Lines)])
    }

    #[test]
    fn every_text_comes_back_byte_for_byte() {
        let texts: [&[u8]; 20] = [
            b"",
            b"\n",
            b"\n\n\n",
            b"the cat",
            b"the cat\n",
            b" the  cat\tsees\n a dog \n",
            b"the cat\r\na dog\r\nthe\r\n",
            b"the\rcat\r",
            "\u{feff}the cat\u{3000}sees\u{a0}the dog\n".as_bytes(),
            "the gr\u{fc}n zebra \u{5b57}\u{1f600} zebra\n".as_bytes(),
            b"the <unk> cat <eos> sees <sos> a <pad> dog\n<unk>",
            b"<eos>",
            b"[UNK] ##at \xe2\x96\x81the\n",
            b"\xff\xfe\x00the cat\n\x00\x80\n",
            b"cat\x0bsees\x0cthe\x1cdog\x85\n",
            b"   \t  \n \n",
            b"cats catsee seesa\n",
            TRAINING.as_bytes(),
            &[b'x'; 300],
            &[b'\n'; 70],
        ];
        for (kind, batching) in all() {
            let (tokenizer, model, params) = model(kind, batching == Batching::Lines);
            let packer = Packer::new(&model, &params, &tokenizer, batching).unwrap();
            for text in texts.iter().copied().chain([&texts.concat()[..]]) {
                let packed = packer.pack(text, &mut |_| ());
                let back = packer.unpack(&packed, &mut |_, _| ());
                assert_eq!(back.unwrap(), text, "{kind} {batching:?} {:?}", String::from_utf8_lossy(text));
            }
        }
    }

    #[test]
    fn the_size_is_the_models_own_figure() {
        for (kind, batching) in all() {
            let (tokenizer, model, params) = model(kind, batching == Batching::Lines);
            let text = TRAINING.repeat(60) + "the zebra sees <unk>\n";
            let corpus = Corpus::read(&Source::from_text(&text), &tokenizer, false).unwrap();
            let mut evaluation = Evaluation::in_order(&model, &params, &tokenizer, &corpus, batching).unwrap();
            while evaluation.advance() {}
            let (zebra, own) = (
                tokenizer.spelling().map_or(0.0, |spelling| spelling.nats("zebra")),
                tokenizer.spelling().map_or(0.0, |spelling| spelling.literal_nats()),
            );
            let bits = (evaluation.total().nll + zebra + own) / std::f64::consts::LN_2;
            let packed = Packer::new(&model, &params, &tokenizer, batching).unwrap().pack(text.as_bytes(), &mut |_| ());
            let taken = 8.0 * packed.len() as f64;
            // What the head takes, and to learn how lines end and are spaced.
            let beside = 8.0 * 32.0 + 300.0 + 0.03 * bits;
            assert!(taken > bits * 0.999 && taken < bits + beside, "{kind} {batching:?}: {taken} bits for {bits}");
        }
    }

    #[test]
    fn what_is_no_packed_text_is_refused_and_what_is_damaged_is_noticed() {
        let (tokenizer, model, params) = model(TokenizerKind::Words, false);
        let packer = Packer::new(&model, &params, &tokenizer, Batching::Stream).unwrap();
        let text = TRAINING.repeat(4);
        let packed = packer.pack(text.as_bytes(), &mut |_| ());
        let unpack = |bytes: &[u8]| packer.unpack(bytes, &mut |_, _| ());
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end]).is_err(), "cut to {end} bytes");
        }
        for at in 0..packed.len() {
            for bit in [1, 128] {
                let mut changed = packed.clone();
                changed[at] ^= bit;
                // The last bits of the last byte say nothing.
                assert!(unpack(&changed).is_err() || at + 1 == packed.len(), "byte {at}");
            }
        }
        let said = |bytes: &[u8]| unpack(bytes).unwrap_err().to_string();
        assert!(said(b"some text").contains("no packed text"));
        let mut other = params.clone();
        other.values_mut()[0] += 1.0;
        let other = Packer::new(&model, &other, &tokenizer, Batching::Stream).unwrap();
        let error = other.unpack(&packed, &mut |_, _| ()).unwrap_err().to_string();
        assert!(error.contains("another model"), "{error}");
        let mut elsewhere = packed.clone();
        elsewhere[6] ^= 1;
        assert!(said(&elsewhere).contains("set LSTM_ISA="), "{}", said(&elsewhere));
        let windows = Packer::new(&model, &params, &tokenizer, Batching::Windows(3)).err().unwrap().to_string();
        assert!(windows.contains("first 3"), "{windows}");
    }
}
