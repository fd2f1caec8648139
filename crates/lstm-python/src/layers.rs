//! Layers of an LSTM over memory of others: parameters, input and gradients lie where Python has them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lstm::nn::config::{CellOptions, Zoneout};
use lstm::nn::dropout::{Dropout, DropoutKind, Masks};
use lstm::nn::params::{ParamsMut, ParamsRef};
use lstm::nn::precision::Precision;
use lstm::nn::stack::Tape;
use lstm::nn::state::State;
use lstm::said::count;
use lstm::{Lstm, LstmConfig, Segment, Start};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arrays::{Given, Read, array, values};
use crate::errors::of_setting;

/// The most tapes that are kept for passes to come.
const MOST_SPARE: usize = 64;

/// The tapes that wait for the next pass: its memory is there already, page by page.
type Spare = Arc<Mutex<Vec<Tape>>>;

/// The output, the final h and c, the pass for a way back, and where they were asked for the cells of each layer.
type Outcome<'py> = (Given<'py>, Given<'py>, Given<'py>, Option<Pass>, Vec<Given<'py>>);

/// The layers of an LSTM, without parameters.
#[pyclass(frozen, module = "lstm_cpu._native")]
pub(crate) struct Layers {
    lstm: Lstm,
    bias: bool,
    /// Which of the layout's arrays are biases of gates that are not there, and the zeros in their place.
    absent: Vec<bool>,
    zeros: Vec<f32>,
    spare: Spare,
}

/// A pass forward, kept for its way back.
#[pyclass(frozen, module = "lstm_cpu._native")]
pub(crate) struct Pass {
    kept: Mutex<Kept>,
    spare: Spare,
    course: Course,
}

struct Kept {
    /// `None` while a way back has it.
    tape: Option<Tape>,
    /// Whether a way back has overwritten what it needs.
    spent: bool,
}

/// The segment of a pass, and its dropout.
#[derive(Clone)]
struct Course {
    steps: usize,
    batch: usize,
    lengths: Option<Vec<usize>>,
    packed: Option<Vec<usize>>,
    dropout: Option<Dropout>,
    threads: usize,
    precision: Precision,
}

impl Course {
    /// Runs `work` with the pass's threads, which are PyTorch's own where it is there, and the precision of its products.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        lstm::with_openmp(|| lstm::with_threads(self.threads, || self.precision.within(work)))
    }

    fn segment(&self) -> Segment<'_> {
        Segment {
            steps: self.steps,
            batch: self.batch,
            lengths: self.lengths.as_deref(),
            packed: self.packed.as_deref(),
        }
    }

    /// The shape of the rows of a sequence of `width` values: `[T, B, ·]`, or `[N, ·]` of a packed one.
    fn shape(&self, width: usize) -> Vec<usize> {
        match &self.packed {
            Some(starts) => vec![starts.last().copied().unwrap_or(0), width],
            None => vec![self.steps, self.batch, width],
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Layers {
    #[new]
    #[pyo3(signature = (input_size, hidden_sizes, bias=true, bidirectional=false, proj_size=0, peepholes=false, layer_norm=false, zoneout=(0.0, 0.0)))]
    fn new(
        input_size: usize,
        hidden_sizes: Vec<usize>,
        bias: bool,
        bidirectional: bool,
        proj_size: usize,
        peepholes: bool,
        layer_norm: bool,
        zoneout: (f32, f32),
    ) -> PyResult<Self> {
        let zoneout = Zoneout { cell: zoneout.0, hidden: zoneout.1 };
        let lstm = Lstm::new(LstmConfig {
            layers: hidden_sizes.len(),
            bidirectional,
            projection: (proj_size > 0).then_some(proj_size),
            variant: CellOptions { peepholes, layer_norm, zoneout, ..CellOptions::default() },
            ..LstmConfig::new(input_size, hidden_sizes)
        })
        .map_err(of_setting)?;
        let entries = lstm.layout().entries();
        let is_bias = |name: &str| name.starts_with("bias_ih") || name.starts_with("bias_hh");
        let absent: Vec<bool> = entries.iter().map(|entry| !bias && is_bias(&entry.name)).collect();
        let widest = entries.iter().zip(&absent).filter(|(_, absent)| **absent).map(|(entry, _)| entry.shape[0]).max();
        let zeros = vec![0.0; widest.unwrap_or(0)];
        Ok(Self { lstm, bias, absent, zeros, spare: Spare::default() })
    }

    /// What makes the same layers: they hold no values.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        let config = self.lstm.config();
        let hidden: Vec<usize> = (0..config.layers).map(|layer| config.hidden.of(layer)).collect();
        let (variant, zoneout) = (config.variant, config.variant.zoneout);
        let arguments = (
            config.input,
            hidden,
            self.bias,
            config.bidirectional,
            config.projection.unwrap_or(0),
            variant.peepholes,
            variant.layer_norm,
            (zoneout.cell, zoneout.hidden),
        );
        Ok((py.get_type::<Self>().into_any(), arguments.into_pyobject(py)?.into_any()))
    }

    /// The names and shapes of the parameters, in their order.
    #[getter]
    fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        self.present().map(|entry| (entry.name.clone(), entry.shape.clone())).collect()
    }

    /// Runs a segment; with `keep`, gives what its way back needs.
    ///
    /// input: `[T, B, I]`, or `[N, I]` with `batch_sizes`, the rows at each step of a packed one; state: `h_0` and `c_0`, all layers'
    /// one after the other; dropout: the rate between layers, that of recurrent weights, and a seed, in training; bf16: whether the factors of
    /// products are rounded to bf16.
    #[pyo3(signature = (parameters, input, shape, state=None, lengths=None, batch_sizes=None, dropout=None, keep=true, cells=false, threads=0, bf16=false))]
    fn forward<'py>(
        &self,
        py: Python<'py>,
        parameters: Vec<Read<'py>>,
        input: Read<'py>,
        shape: (usize, usize),
        state: Option<(Read<'py>, Read<'py>)>,
        lengths: Option<Vec<usize>>,
        batch_sizes: Option<Vec<usize>>,
        dropout: Option<(f32, f32, u64)>,
        keep: bool,
        cells: bool,
        threads: usize,
        bf16: bool,
    ) -> PyResult<Outcome<'py>> {
        let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
        let course = Course { precision, ..self.course(shape, lengths, batch_sizes, dropout, threads)? };
        let arrays = self.arrays(&parameters)?;
        let input = values(&input, "input", &course.shape(self.lstm.config().input))?;
        let mut state = self.state(course.batch, state.as_ref())?;
        let mut tape = self.spare_tape();
        let output = py.detach(|| {
            self.run(&arrays, input, &course, &mut state, &mut tape);
            tape.output().to_vec()
        });
        let output = array(py, output, &course.shape(self.lstm.output_size()))?;
        let of_cells = if cells { self.cells(py, &course, &tape)? } else { Vec::new() };
        let State { h, c, .. } = state;
        let (of_h, of_c) = (h.len(), c.len());
        let (h, c) = (array(py, h, &[of_h])?, array(py, c, &[of_c])?);
        let kept = Kept { tape: Some(tape), spent: false };
        let pass = Pass { kept: Mutex::new(kept), spare: Arc::clone(&self.spare), course };
        Ok((output, h, c, keep.then_some(pass), of_cells))
    }

    /// Runs a pass backward: the gradients of the input, of `h_0` and `c_0`, and of each parameter.
    ///
    /// `d_output`, `d_h` and `d_c`: those of what the pass gave; `None` for zeros. The rest is what the pass was given.
    #[pyo3(signature = (pass_, parameters, input, state=None, d_output=None, d_h=None, d_c=None))]
    fn backward<'py>(
        &self,
        py: Python<'py>,
        pass_: &Pass,
        parameters: Vec<Read<'py>>,
        input: Read<'py>,
        state: Option<(Read<'py>, Read<'py>)>,
        d_output: Option<Read<'py>>,
        d_h: Option<Read<'py>>,
        d_c: Option<Read<'py>>,
    ) -> PyResult<(Given<'py>, Given<'py>, Given<'py>, Vec<Given<'py>>)> {
        let course = &pass_.course;
        let arrays = self.arrays(&parameters)?;
        let input_shape = course.shape(self.lstm.config().input);
        let input = values(&input, "input", &input_shape)?;
        let mut again = self.state(course.batch, state.as_ref())?;
        let output_shape = course.shape(self.lstm.output_size());
        let zeros = if d_output.is_none() { vec![0.0; output_shape.iter().product()] } else { Vec::new() };
        let d_output =
            d_output.as_ref().map_or(Ok(&zeros[..]), |d| values(d, "the gradient of the output", &output_shape))?;
        let mut d_final = None;
        if d_h.is_some() || d_c.is_some() {
            let mut state = self.lstm.state(course.batch);
            for (to, from, what) in
                [(&mut state.h, &d_h, "the gradient of h_n"), (&mut state.c, &d_c, "the gradient of c_n")]
            {
                if let Some(from) = from {
                    let len = to.len();
                    to.copy_from_slice(values(from, what, &[len])?);
                }
            }
            d_final = Some(state);
        }
        let entries = self.lstm.layout().entries();
        let mut gradients: Vec<Vec<f32>> =
            entries.iter().map(|entry| vec![0.0; entry.shape.iter().product()]).collect();
        // Taken out, so that nobody waits for it with the interpreter's lock in hand.
        let found = {
            let mut kept = locked(&pass_.kept);
            let is_ready = !kept.spent;
            kept.tape.take().map(|tape| (tape, is_ready))
        };
        let (mut tape, is_ready) = found.unwrap_or_else(|| (self.spare_tape(), false));
        let d_input = py.detach(|| {
            if !is_ready {
                // The way back needs the gates, which the one before overwrote, or overwrites now.
                self.run(&arrays, input, course, &mut again, &mut tape);
            }
            course.within(|| {
                let layout = self.lstm.layout();
                let to = ParamsMut::apart(layout, gradients.iter_mut().map(|values| &mut values[..]).collect());
                let params = ParamsRef::apart(layout, &arrays);
                let segment = course.segment();
                self.lstm.backward(params, input, segment, d_output, d_final.as_ref(), &mut tape, to, Start::Zero);
            });
            tape.d_input().to_vec()
        });
        let d_input = array(py, d_input, &input_shape)?;
        let State { h, c, .. } = tape.d_initial();
        let (d_h, d_c) = (array(py, h.clone(), &[h.len()])?, array(py, c.clone(), &[c.len()])?);
        *locked(&pass_.kept) = Kept { tape: Some(tape), spent: true };
        let present = gradients.into_iter().zip(entries).zip(&self.absent).filter(|(_, absent)| !**absent);
        let gradients = present.map(|((values, entry), _)| array(py, values, &entry.shape)).collect::<PyResult<_>>()?;
        Ok((d_input, d_h, d_c, gradients))
    }
}

impl Layers {
    /// The parameters that there are.
    fn present(&self) -> impl Iterator<Item = &lstm::nn::params::Entry> {
        let entries = self.lstm.layout().entries().iter().zip(&self.absent);
        entries.filter(|(_, absent)| !**absent).map(|(entry, _)| entry)
    }

    /// A tape for a pass.
    fn spare_tape(&self) -> Tape {
        locked(&self.spare).pop().unwrap_or_else(|| self.lstm.tape())
    }

    /// The segment of a pass, checked.
    fn course(
        &self,
        (steps, batch): (usize, usize),
        lengths: Option<Vec<usize>>,
        batch_sizes: Option<Vec<usize>>,
        dropout: Option<(f32, f32, u64)>,
        threads: usize,
    ) -> PyResult<Course> {
        let wrong = |what: &str| Err(PyValueError::new_err(what.to_owned()));
        if let Some(lengths) = &lengths
            && (lengths.len() != batch || lengths.iter().any(|length| *length > steps))
        {
            return wrong("lengths must be one for every row, none above the number of steps");
        }
        let packed = match batch_sizes {
            None => None,
            Some(_) if !self.lstm.config().variant.is_plain() || lengths.is_some() => {
                return wrong("a packed segment needs the plain cell and no lengths");
            }
            Some(sizes) => {
                if sizes.len() != steps
                    || sizes.first().is_some_and(|first| *first != batch)
                    || !sizes.is_sorted_by(|a, b| a >= b)
                {
                    return wrong("batch_sizes must be one for every step, from all rows downwards");
                }
                let mut starts = vec![0];
                starts.extend(sizes.iter().scan(0, |sum, size| {
                    *sum += size;
                    Some(*sum)
                }));
                Some(starts)
            }
        };
        let dropout = dropout.map(|(rate, weights, seed)| Dropout {
            kind: DropoutKind::Standard,
            rate,
            weights,
            masks: Masks { seed, step: 0, shard: 0, share: 1.0 },
        });
        Ok(Course { steps, batch, lengths, packed, dropout, threads, precision: Precision::F32 })
    }

    /// Every array of the layout where it lies.
    fn arrays<'a>(&'a self, parameters: &'a [Read<'_>]) -> PyResult<Vec<&'a [f32]>> {
        let expected = self.present().count();
        if parameters.len() != expected {
            return Err(PyValueError::new_err(format!(
                "given are {}; it has {expected}",
                count(parameters.len(), "parameter")
            )));
        }
        let mut given = parameters.iter();
        let entries = self.lstm.layout().entries().iter().zip(&self.absent);
        let mut all = Vec::with_capacity(self.absent.len());
        for (entry, absent) in entries {
            all.push(match if *absent { None } else { given.next() } {
                Some(array) => values(array, &entry.name, &entry.shape)?,
                None => &self.zeros[..entry.shape[0]],
            });
        }
        Ok(all)
    }

    /// The initial state: zeros, or what is given.
    fn state(&self, batch: usize, given: Option<&(Read<'_>, Read<'_>)>) -> PyResult<State> {
        let mut state = self.lstm.state(batch);
        if let Some((h, c)) = given {
            let (of_h, of_c) = (state.h.len(), state.c.len());
            state.h.copy_from_slice(values(h, "h_0", &[of_h])?);
            state.c.copy_from_slice(values(c, "c_0", &[of_c])?);
        }
        Ok(state)
    }

    /// The pass forward.
    fn run(&self, arrays: &[&[f32]], input: &[f32], course: &Course, state: &mut State, tape: &mut Tape) {
        let params = ParamsRef::apart(self.lstm.layout(), arrays);
        course.within(|| {
            self.lstm.forward(params, input, course.segment(), state, course.dropout, tape);
        });
    }

    /// The cell states after each step, of every layer and direction.
    fn cells<'py>(&self, py: Python<'py>, course: &Course, tape: &Tape) -> PyResult<Vec<Given<'py>>> {
        let config = self.lstm.config();
        let all =
            (0..config.layers).flat_map(|layer| (0..config.directions()).map(move |direction| (layer, direction)));
        all.map(|(layer, direction)| {
            array(py, tape.cell(layer, direction).to_vec(), &course.shape(config.hidden.of(layer)))
        })
        .collect()
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(tape) = locked(&self.kept).tape.take() {
            let mut spare = locked(&self.spare);
            if spare.len() < MOST_SPARE {
                spare.push(tape);
            }
        }
    }
}
