//! Numpy's arrays as slices where they lie, and the library's values as arrays.

use numpy::{PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// An array of `f32` that is read where it lies.
pub(crate) type Read<'py> = PyReadonlyArrayDyn<'py, f32>;

/// An array that is handed to Python.
pub(crate) type Given<'py> = Bound<'py, PyArrayDyn<f32>>;

/// The values of `array`, which must have this shape and lie row by row.
pub(crate) fn values<'a>(array: &'a Read<'_>, what: &str, shape: &[usize]) -> PyResult<&'a [f32]> {
    if array.shape() != shape {
        return Err(PyValueError::new_err(format!("{what} has the shape {:?}; it must be {shape:?}", array.shape())));
    }
    array.as_slice().map_err(|_| PyValueError::new_err(format!("{what} does not lie row by row; make it contiguous")))
}

/// An array of this shape from values that it takes over.
pub(crate) fn array<'py>(py: Python<'py>, values: Vec<f32>, shape: &[usize]) -> PyResult<Given<'py>> {
    PyArray1::from_vec(py, values).reshape(shape.to_vec())
}
