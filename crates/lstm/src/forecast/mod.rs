//! Forecasts of the columns of a table with time stamps: quantiles or a distribution of every value to come, by LSTM layers.

pub mod baseline;
mod calendar;
mod config;
mod dataset;
mod head;
mod measures;
mod model;
mod plan;
mod run;
mod special;
mod task;
mod trained;
mod windows;

pub use calendar::Cycle;
pub use config::{Columns, ForecastConfig, Normalise, SPLIT};
pub use dataset::{Dataset, Encoder, Frame, Scaler, Series};
pub use head::{Forecast, LEVELS, Likelihood, MEDIAN};
pub use measures::Measures;
pub use model::{ForecastModel, ForecastTape};
pub use plan::{Plan, Trial, plan};
pub use run::{Prepared, finish, resume};
pub use task::{ForecastBatches, ForecastEvaluation, Forecasting};
pub use trained::{Comparison, Origins, Predicted, TrainedForecast};
pub use windows::{ForecastBatch, Window};
