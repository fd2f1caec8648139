//! A trained language model at work.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use lstm::evaluate::Evaluation;
use lstm::formats::foreign::{self, Format, Wishes};
use lstm::formats::import::Hints;
use lstm::formats::network::Network;
use lstm::generate::{Generator, Rules, Sampling};
use lstm::inspect::{self, Inspection};
use lstm::model::TokenStream;
use lstm::run::imported::imported;
use lstm::run::saved::LoadedRun;
use lstm::said::count;
use lstm::score::{Lines, Text};
use lstm::text::TextError;
use lstm::text::corpus::Corpus;
use lstm::text::source::Source;
use lstm::text::tokenizer::{Tokenizer as NativeTokenizer, TokenizerKind};
use numpy::PyArray1;
use pyo3::exceptions::{PyFileNotFoundError, PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use self_cell::self_cell;

use crate::arrays::{Given, array};
use crate::errors::{of_file, of_setting, of_text, of_training};
use crate::tokenizer::Tokenizer;

/// A trained language model.
#[pyclass(frozen, module = "lstm_cpu._native", subclass)]
pub(crate) struct Model {
    run: Arc<LoadedRun>,
}

self_cell!(
    struct OwnedGenerator {
        owner: Arc<LoadedRun>,
        #[covariant]
        dependent: Generator,
    }
);

self_cell!(
    struct OwnedStream {
        owner: Arc<LoadedRun>,
        #[covariant]
        dependent: TokenStream,
    }
);

/// Tokens that a model writes, one after the other.
#[pyclass(frozen, module = "lstm_cpu._native")]
pub(crate) struct Tokens {
    run: Arc<LoadedRun>,
    state: Mutex<(OwnedGenerator, usize)>,
}

/// Streams of tokens through a model, step by step.
#[pyclass(frozen, module = "lstm_cpu._native")]
pub(crate) struct Stream {
    stream: Mutex<OwnedStream>,
    vocabulary: usize,
    batch: usize,
}

/// A line of a scored text: its tokens' ids, texts, nats and ranks.
type Line = (Vec<u32>, Vec<String>, Vec<f32>, Vec<u32>);

#[pymethods]
impl Model {
    /// Opens a model file, or the best model of a run folder.
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        if !path.exists() {
            let said =
                format!("{} is not there; give a model file, or the folder that a training made", path.display());
            return Err(PyFileNotFoundError::new_err(said));
        }
        let run = py.detach(|| LoadedRun::open(&path)).map_err(of_training)?;
        Ok(Self { run: Arc::new(run) })
    }

    /// Its tokenizer.
    #[getter]
    fn tokenizer(&self) -> Tokenizer {
        Tokenizer::of(&self.run)
    }

    /// What it is, in words.
    fn __repr__(&self) -> String {
        format!("Model({}, {})", self.run.config.tokenizer, self.run.model.config())
    }

    /// The epoch and the step it is from, and its perplexities.
    #[getter]
    fn card(&self) -> (usize, u64, f64, Option<f64>, Option<f64>) {
        let card = &self.run.card;
        let perplexity = |loss: Option<lstm::model::Loss>| loss.map(|loss| loss.perplexity());
        (card.epoch, card.step, card.train.perplexity(), perplexity(card.valid), perplexity(card.test))
    }

    /// The names, shapes and values of the parameters.
    fn parameters<'py>(&self, py: Python<'py>) -> PyResult<Vec<(String, Given<'py>)>> {
        let entries = self.run.model.layout().entries().iter();
        let of = |entry: &lstm::nn::params::Entry| {
            let values = self.run.params.get(entry.slot).to_vec();
            Ok((entry.name.clone(), array(py, values, &entry.shape)?))
        };
        entries.map(of).collect()
    }

    /// The sum of the nats of a text's tokens, their number, and how many are unknown.
    fn loss(&self, py: Python<'_>, text: Option<String>, path: Option<PathBuf>) -> PyResult<(f64, usize, usize)> {
        let run = &self.run;
        let source = source(run, text, path)?;
        py.detach(|| {
            let corpus = Corpus::read(&source, &run.tokenizer, run.config.data.lossy).map_err(of_text)?;
            let (batching, rows) = (run.config.batching, run.config.training.batch);
            let made = Evaluation::new(&run.model, &run.params, &run.tokenizer, &corpus, batching, rows);
            let mut evaluation = made.map_err(of_text)?;
            while evaluation.advance() {
                Python::attach(|py| py.check_signals())?;
            }
            let total = evaluation.total();
            Ok((total.nll, total.tokens, corpus.unknown))
        })
    }

    /// Each line of a text.
    fn score(&self, py: Python<'_>, text: Option<String>, path: Option<PathBuf>, alone: bool) -> PyResult<Vec<Line>> {
        /// What ends a scoring.
        enum End {
            Text(TextError),
            Python(PyErr),
        }
        impl From<TextError> for End {
            fn from(error: TextError) -> Self {
                Self::Text(error)
            }
        }
        let run = &self.run;
        let source = source(run, text, path)?;
        let lines = if alone { Lines::Alone } else { Lines::Joined };
        py.detach(|| {
            let text = Text::read(&source, run, run.config.data.lossy).map_err(of_text)?;
            let mut scored = Vec::new();
            let ended = lstm::score::score(run, &text, lines, &mut |_| (), &mut |line| {
                Python::attach(|py| py.check_signals()).map_err(End::Python)?;
                let mut all: Line = Default::default();
                for token in &line.tokens {
                    all.0.push(token.id);
                    all.1.push(token.text.clone());
                    all.2.push(token.nats);
                    all.3.push(token.rank);
                }
                scored.push(all);
                Ok(())
            });
            match ended {
                Ok(_) => Ok(scored),
                Err(End::Text(error)) => Err(of_text(error)),
                Err(End::Python(error)) => Err(error),
            }
        })
    }

    /// Writes on from a prompt.
    #[pyo3(signature = (prompt, length, temperature, top_k, top_p, min_p, repetition_penalty, seed))]
    fn generate(
        &self,
        py: Python<'_>,
        prompt: &str,
        length: usize,
        temperature: f32,
        top_k: usize,
        top_p: f32,
        min_p: f32,
        repetition_penalty: f32,
        seed: u64,
    ) -> PyResult<Tokens> {
        let sampling = Sampling { temperature, top_k, top_p, min_p, repetition_penalty };
        let prompt = self.run.tokenizer.encode(prompt).map_err(of_text)?;
        let generator = py.detach(|| {
            OwnedGenerator::try_new(Arc::clone(&self.run), |run| {
                let mut generator =
                    Generator::new(&run.model, &run.params, Rules::of(run), sampling, seed, 0).map_err(of_setting)?;
                prompt.iter().for_each(|token| generator.read(*token));
                Ok::<_, PyErr>(generator)
            })
        })?;
        Ok(Tokens { run: Arc::clone(&self.run), state: Mutex::new((generator, length)) })
    }

    /// What the model does inside while it reads a text: arrays by the names that `lstm inspect --npz` gives them, the tokens' texts, and
    /// for each prediction that is to be explained what each token read before it adds.
    fn inspect<'py>(&self, py: Python<'py>, text: &str, explain: Vec<usize>) -> PyResult<Bound<'py, PyDict>> {
        let run = &self.run;
        let (inspection, causes) = py.detach(|| {
            let ids = inspect::tokens(run, text).map_err(of_text)?;
            let inspection = Inspection::of(run, &ids);
            let causes = match explain.is_empty() {
                true => Vec::new(),
                false => inspect::cause::explain(run, &ids, &inspection, &explain).map_err(of_training)?,
            };
            Ok::<_, PyErr>((inspection, causes))
        })?;
        let (dict, tokens) = (PyDict::new(py), inspection.read.len());
        let texts: Vec<&str> = inspection.read.iter().map(|read| &read.text[..]).collect();
        let ids: Vec<u32> = inspection.read.iter().map(|read| read.id).collect();
        let nats = inspection.read.iter().map(|read| read.nats.unwrap_or(f32::NAN)).collect();
        dict.set_item("text", texts)?;
        dict.set_item("ids", PyArray1::from_vec(py, ids))?;
        dict.set_item("nats", array(py, nats, &[tokens])?)?;
        for (number, layer) in inspection.layers.iter().enumerate() {
            for (name, values, width) in layer.channels() {
                dict.set_item(format!("layer{}_{name}", number + 1), array(py, values.to_vec(), &[tokens, width])?)?;
            }
        }
        for cause in causes {
            let read = cause.product.len();
            let (token, integrated) = (cause.token, cause.integrated.len());
            dict.set_item(format!("cause{token}_from"), cause.from)?;
            dict.set_item(format!("cause{token}_product"), array(py, cause.product, &[read])?)?;
            dict.set_item(format!("cause{token}_integrated"), array(py, cause.integrated, &[integrated])?)?;
        }
        Ok(dict)
    }

    /// Streams through the model, from zero states.
    fn stream(&self, py: Python<'_>, batch: usize) -> PyResult<Stream> {
        if batch == 0 {
            return Err(PyValueError::new_err("batch is 0; it must be at least 1"));
        }
        let made =
            py.detach(|| OwnedStream::try_new(Arc::clone(&self.run), |run| run.model.stream(&run.params, batch)));
        let stream = Mutex::new(made.map_err(of_setting)?);
        Ok(Stream { stream, vocabulary: self.run.model.config().vocabulary, batch })
    }

    /// Writes the whole model into one file.
    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.run.save(&path)).map_err(of_file)
    }

    /// Writes PyTorch's state dict to `path`, and a module of these layers to `module`.
    fn write_torch(&self, py: Python<'_>, path: PathBuf, module: PathBuf) -> PyResult<()> {
        py.detach(|| {
            let run = &self.run;
            let network = Network::from_language_model(&run.model, &run.params, Some(&run.tokenizer));
            let network = network.map_err(|error| PyValueError::new_err(error.to_string()))?;
            let wishes = Wishes { module: Some(&module), ..Wishes::default() };
            foreign::write(&path, Format::Pytorch, &network, wishes).map_err(of_file)
        })
    }
}

/// Makes a model file of a file of PyTorch's, whose tokens are those of `vocabulary`: a line a word, or a `tokenizer.json`.
#[pyfunction]
pub(crate) fn import_torch(
    py: Python<'_>,
    path: PathBuf,
    vocabulary: PathBuf,
    model: PathBuf,
    map: Vec<(String, String)>,
) -> PyResult<()> {
    py.detach(|| {
        let words = NativeTokenizer::read_vocabulary(&vocabulary, false).map_err(of_file)?;
        let hints = Hints { map: &map, vocabulary: Some(&words), is_look: false };
        let import = foreign::read(&path, hints).map_err(of_file)?;
        let language = import.network.into_language_model().map_err(|e| PyValueError::new_err(e.to_string()))?;
        imported(language, &path, Default::default()).map_err(of_setting)?.save(&model).map_err(of_file)
    })
}

/// A text to measure, as the run reads texts.
fn source(run: &LoadedRun, text: Option<String>, path: Option<PathBuf>) -> PyResult<Source> {
    let source = match (text, path) {
        (_, Some(path)) => {
            let lossy = run.config.data.lossy || run.tokenizer.kind() == TokenizerKind::Bytes;
            Source::to_measure(&path, lossy).map_err(of_text)?.0
        }
        (text, None) => Source::from_bytes(text.unwrap_or_default().as_bytes(), "the text"),
    };
    Ok(source.read_as(&run.config.data.reading()))
}

#[pymethods]
impl Tokens {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    /// The next token: its id, and its text as the vocabulary has it.
    fn __next__(&self, py: Python<'_>) -> Option<(u32, String)> {
        py.detach(|| {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let (generator, left) = &mut *state;
            *left = left.checked_sub(1)?;
            let id = generator.with_dependent_mut(|_, generator| generator.next())?;
            Some((id, self.run.tokenizer.text(id)))
        })
    }
}

#[pymethods]
impl Stream {
    /// Takes a token for every row; gives the logits of the next, `[B, V]`.
    fn step<'py>(&self, py: Python<'py>, ids: Vec<u32>) -> PyResult<Given<'py>> {
        if ids.len() != self.batch {
            let (tokens, rows) = (count(ids.len(), "token"), count(self.batch, "row"));
            return Err(PyValueError::new_err(format!("given are {tokens} for {rows}; give one for each row")));
        }
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocabulary) {
            return Err(PyIndexError::new_err(format!("{id} is no token; there are {}, from 0", self.vocabulary)));
        }
        let logits = py.detach(|| {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            stream.with_dependent_mut(|_, stream| stream.step(&ids).to_vec())
        });
        array(py, logits, &[self.batch, self.vocabulary])
    }

    /// The hidden and the cell states of all layers, one after the other.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> PyResult<(Given<'py>, Given<'py>)> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = stream.borrow_owner().model.state(self.batch);
        stream.borrow_dependent().streams().state(&mut state);
        let (of_h, of_c) = (state.h.len(), state.c.len());
        Ok((array(py, state.h, &[of_h])?, array(py, state.c, &[of_c])?))
    }

    #[setter]
    fn set_state(&self, given: (crate::arrays::Read<'_>, crate::arrays::Read<'_>)) -> PyResult<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = stream.borrow_owner().model.state(self.batch);
        for (to, from, what) in [(&mut state.h, &given.0, "h"), (&mut state.c, &given.1, "c")] {
            let len = to.len();
            to.copy_from_slice(crate::arrays::values(from, what, &[len])?);
        }
        stream.with_dependent_mut(|_, stream| stream.streams_mut().set_state(&state));
        Ok(())
    }
}
