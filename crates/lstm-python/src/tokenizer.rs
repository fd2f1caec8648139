//! A model's tokenizer.

use std::path::PathBuf;
use std::sync::Arc;

use lstm::run::saved::LoadedRun;
use lstm::said::count;
use lstm::text::tokenizer::Tokenizer as Native;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

use crate::errors::{of_file, of_text};

/// Text into token ids and back.
#[pyclass(frozen, module = "lstm_cpu")]
pub(crate) struct Tokenizer(Held);

/// A tokenizer of its own, or a model's.
enum Held {
    Own(Box<Native>),
    Of(Arc<LoadedRun>),
}

impl Tokenizer {
    pub(crate) fn of(run: &Arc<LoadedRun>) -> Self {
        Self(Held::Of(Arc::clone(run)))
    }

    fn native(&self) -> &Native {
        match &self.0 {
            Held::Own(tokenizer) => tokenizer,
            Held::Of(run) => &run.tokenizer,
        }
    }

    fn check(&self, id: u32) -> PyResult<u32> {
        let size = self.native().vocabulary_size();
        if (id as usize) < size {
            return Ok(id);
        }
        Err(PyIndexError::new_err(format!("{id} is no token; there are {size}, from 0")))
    }
}

#[pymethods]
impl Tokenizer {
    /// Reads a `tokenizer.json` of this program.
    #[staticmethod]
    fn load(path: PathBuf) -> PyResult<Self> {
        Ok(Self(Held::Own(Box::new(Native::load(&path).map_err(of_file)?))))
    }

    /// What a token is: words, chars, bytes or a kind of subwords.
    #[getter]
    fn kind(&self) -> String {
        self.native().kind().to_string()
    }

    /// The token with this id, as the vocabulary has it.
    fn token(&self, id: u32) -> PyResult<String> {
        Ok(self.native().token(self.check(id)?).to_owned())
    }

    /// The id of a token, if there is one.
    fn id(&self, token: &str) -> Option<u32> {
        self.native().id(token)
    }

    /// The ids of a text.
    fn encode(&self, py: Python<'_>, text: &str) -> PyResult<Vec<u32>> {
        py.detach(|| self.native().encode(text)).map_err(of_text)
    }

    /// The text of ids.
    fn decode(&self, ids: Vec<u32>) -> PyResult<String> {
        let mut decoder = self.native().decoder("");
        let mut bytes = Vec::new();
        for id in ids {
            bytes.extend(decoder.push(self.check(id)?));
        }
        bytes.extend(decoder.finish());
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn __len__(&self) -> usize {
        self.native().vocabulary_size()
    }

    fn __repr__(&self) -> String {
        format!("Tokenizer({}, {})", self.native().kind(), count(self.native().vocabulary_size(), "token"))
    }
}
