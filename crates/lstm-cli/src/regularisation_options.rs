//! The options of `lstm train` that keep a model from learning its text by heart, and how they are laid over a preset.

use anyhow::{Result, bail};
use lstm::model::LanguageModelConfig;
use lstm::nn::dropout::{DropoutKind, DropoutRates};

/// How it is regularised. Everything here is off in evaluation, but for zoneout, which then takes its expectation.
#[derive(clap::Args)]
#[command(next_help_heading = "Regularisation")]
pub struct RegularisationOptions {
    /// Dropout rate of inputs, between layers and of outputs, where the next three say nothing else
    #[arg(long, value_name = "RATE")]
    dropout: Option<f32>,
    /// Dropout rate of the embedding's values
    #[arg(long, value_name = "RATE")]
    dropout_input: Option<f32>,
    /// Dropout rate between layers
    #[arg(long, value_name = "RATE")]
    dropout_hidden: Option<f32>,
    /// Dropout rate of what is read out
    #[arg(long, value_name = "RATE")]
    dropout_output: Option<f32>,
    /// Masks of dropout: standard, fresh at every step; locked, one for a segment (Gal & Ghahramani 2016)
    #[arg(long, value_name = "KIND")]
    dropout_kind: Option<DropoutKind>,
    /// Rate at which whole words lose their embedding (Gal & Ghahramani 2016)
    #[arg(long, value_name = "RATE")]
    dropout_embedding: Option<f32>,
    /// Rate at which hidden-to-hidden weights are dropped: DropConnect (Merity 2017)
    #[arg(long, value_name = "RATE")]
    dropout_weights: Option<f32>,
    /// Share of all these rates that the run begins with; they rise in a straight line to all of them at its end (Morerio 2017).
    /// Where --dropout says a rate, it is 1 unless said
    #[arg(long, value_name = "SHARE")]
    dropout_start: Option<f32>,
    /// Zoneout: the probability with which each unit of the cell and hidden states keeps its value in a step; in evaluation
    /// the expectation (Krueger et al. 2017)
    #[arg(long, value_name = "RATE")]
    zoneout: Option<f32>,
    /// Zoneout of the cell states
    #[arg(long, value_name = "RATE")]
    zoneout_cell: Option<f32>,
    /// Zoneout of the hidden states
    #[arg(long, value_name = "RATE")]
    zoneout_hidden: Option<f32>,
    /// Activation regularisation: ALPHA times the mean square of what is read out (Merity 2017)
    #[arg(long, value_name = "ALPHA")]
    ar: Option<f32>,
    /// Temporal activation regularisation: BETA times the mean square of its change per step (Merity 2017)
    #[arg(long, value_name = "BETA")]
    tar: Option<f32>,
    /// Label smoothing: spread this share of each target over all tokens (Szegedy 2016)
    #[arg(long, value_name = "EPSILON")]
    label_smoothing: Option<f32>,
}

impl RegularisationOptions {
    /// Lays the options over a model whose other choices are made.
    pub fn lay_over(&self, model: &mut LanguageModelConfig) -> Result<()> {
        let all = [self.dropout_input, self.dropout_hidden, self.dropout_output].iter().all(Option::is_some);
        if self.dropout.is_some() && all {
            bail!(
                "--dropout has no part with --dropout-input, --dropout-hidden and --dropout-output, which say all that it \
                 does; leave it out"
            );
        }
        if self.zoneout.is_some() && self.zoneout_cell.is_some() && self.zoneout_hidden.is_some() {
            bail!(
                "--zoneout has no part with --zoneout-cell and --zoneout-hidden, which say all that it does; leave it out"
            );
        }
        let rates = &mut model.dropout;
        if let Some(rate) = self.dropout {
            *rates = DropoutRates { kind: rates.kind, ..DropoutRates::all(rate) };
        }
        rates.input = self.dropout_input.unwrap_or(rates.input);
        rates.hidden = self.dropout_hidden.unwrap_or(rates.hidden);
        rates.output = self.dropout_output.unwrap_or(rates.output);
        rates.kind = self.dropout_kind.unwrap_or(rates.kind);
        rates.embedding = self.dropout_embedding.unwrap_or(rates.embedding);
        rates.weights = self.dropout_weights.unwrap_or(rates.weights);
        rates.start = self.dropout_start.unwrap_or(rates.start);
        let zoneout = &mut model.lstm.variant.zoneout;
        zoneout.cell = self.zoneout_cell.or(self.zoneout).unwrap_or(zoneout.cell);
        zoneout.hidden = self.zoneout_hidden.or(self.zoneout).unwrap_or(zoneout.hidden);
        let penalties = &mut model.penalties;
        penalties.activation = self.ar.unwrap_or(penalties.activation);
        penalties.temporal = self.tar.unwrap_or(penalties.temporal);
        penalties.label_smoothing = self.label_smoothing.unwrap_or(penalties.label_smoothing);
        if self.dropout_hidden.is_some() && model.lstm.layers == 1 {
            bail!("--dropout-hidden drops between layers; it needs --layers of at least 2");
        }
        if let Some(kind) = self.dropout_kind.filter(|_| [rates.input, rates.hidden, rates.output] == [0.0; 3]) {
            bail!("--dropout-kind {kind} says how to drop, but nothing is dropped; give a rate by --dropout");
        }
        Ok(())
    }
}
