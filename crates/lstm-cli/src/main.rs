//! The `lstm` command: train, evaluate, generate, score, serve, show, measure.

mod adapt;
mod bench;
mod convert;
#[cfg(feature = "download")]
mod data;
mod defaults;
mod ensemble;
mod eval;
mod eval_forecast;
mod eval_regress;
mod eval_sequence;
mod find;
mod flags;
mod forecast_train;
mod generate;
mod given;
mod inspect;
mod inspect_shown;
mod lab;
mod learning_options;
mod length_options;
mod measured;
mod members;
mod notes;
mod output;
mod pack;
mod predict;
mod predict_forecast;
mod predict_numbers;
mod predict_sequence;
mod progress;
mod quantize;
mod ranks;
mod regularisation_options;
mod repeat;
mod report;
mod score;
mod sequence_train;
#[cfg(feature = "serve")]
mod serve;
mod show;
mod show_file;
mod show_forecast;
mod show_runs;
mod show_sequence;
mod signals;
mod stdin;
mod sweep;
mod task_options;
mod task_train;
mod tasks;
mod teaching_options;
mod text_options;
mod train;
mod train_options;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use lstm::run::TaskKind;

/// LSTM networks: train on a text or on labelled data, evaluate, predict, generate, look inside.
#[derive(Parser)]
#[command(name = "lstm", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a model on a text, or on the built-in language
    Train(Box<train_options::Train>),
    /// Measure a trained model: a language model's perplexity on a text, a classifier's accuracy
    Eval(eval::Eval),
    /// Measure several language models as one, by the mean of their probabilities
    Ensemble(ensemble::Ensemble),
    /// Say what a model that is no language model makes of data: labels and probabilities, as CSV or JSON lines
    Predict(predict::Predict),
    /// Write with a trained model
    Generate(generate::Generate),
    /// Show how surprising each token of a text is to a model, in nats, and each line's perplexity
    Score(score::Score),
    /// Make a text as small as a model can: the bits of its surprisal
    Pack(pack::Pack),
    /// Get back a text that was packed, byte for byte
    Unpack(pack::Unpack),
    /// Serve models: to OpenAI's clients, and to a browser
    #[cfg(feature = "serve")]
    Serve(serve::Serve),
    /// Get a corpus of the literature
    #[cfg(feature = "download")]
    Data(data::Data),
    /// Turn a model into another program's file, or such a file into a model
    Convert(convert::Convert),
    /// Make a model a quarter the size: its weights bytes, with a scale a row
    Quantize(quantize::Quantize),
    /// Show what a trained model is, or what a file of another program holds
    Show(show::Show),
    /// Train a stretch of a run again and compare every bit: the proof that its result is the code's
    Verify(verify::Verify),
    /// Look inside a model while it reads a text: gates, states, cause and effect
    Inspect(Box<inspect::Inspect>),
    /// Try the choices of the report that this project grew from, and write a page that explains what each costs
    Lab(lab::Lab),
    /// Lay runs over one another on a page, or write one run's page anew
    Report(report::Report),
    /// Print a training command for every combination of some settings, a line each, for whatever runs commands
    Sweep(sweep::Sweep),
    /// Measure this machine's peak, and how fast it trains and runs models
    Bench(bench::Bench),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let task = tasks::of_train(&arguments);
    let mut known = described(task);
    let matches =
        known.try_get_matches_from_mut(std::env::args_os()).unwrap_or_else(|error| given::plainly(error).exit());
    lstm::check_isa()
        .map_err(anyhow::Error::msg)
        .and_then(|()| match matches.subcommand() {
            Some((name, given)) => {
                known.find_subcommand(name).map_or(Ok(()), |known| given::refuse_idle(task, known, given))
            }
            None => Ok(()),
        })
        .and_then(|()| match matches.subcommand() {
            Some(("train", given)) if task != TaskKind::Language => tasks::train(task, given),
            _ => run(Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command),
        })
        .unwrap_or_else(|error| output::failure(&error, &known))
}

/// The command with all its subcommands, with the `train` of a task, and with the defaults of that in its help. A negative number is an option's value, which says
/// itself what it has to be, and no option of its own.
fn described(task: TaskKind) -> clap::Command {
    let numbers = |option: clap::Arg| {
        let takes_values = option.get_long().is_some() && option.get_action().takes_values();
        option.allow_negative_numbers(takes_values)
    };
    let command = Cli::command().mut_subcommand("train", |train| tasks::train_command(task, train));
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.iter().fold(command, |command, name| command.mut_subcommand(name, |command| command.mut_args(numbers)))
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Train(command) => train::run(*command),
        Command::Eval(command) => tasks::evaluate(command),
        Command::Ensemble(command) => ensemble::run(command),
        Command::Predict(command) => tasks::predict(command),
        Command::Generate(command) => generate::run(command),
        Command::Score(command) => score::run(command),
        Command::Pack(command) => pack::pack(command),
        Command::Unpack(command) => pack::unpack(command),
        #[cfg(feature = "serve")]
        Command::Serve(command) => serve::run(command),
        #[cfg(feature = "download")]
        Command::Data(command) => data::run(command),
        Command::Convert(command) => convert::run(command),
        Command::Quantize(command) => quantize::run(command),
        Command::Show(command) => tasks::show(command),
        Command::Verify(command) => verify::run(&command),
        Command::Inspect(command) => inspect::run(*command),
        Command::Lab(command) => lab::run(command),
        Command::Report(command) => report::run(command),
        Command::Sweep(command) => sweep::run(&command),
        Command::Bench(command) => bench::run(command),
        Command::Completions { shell } => {
            // Into memory first: what writes them takes a reader that has seen enough for a defect.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut described(TaskKind::Language), "lstm", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
