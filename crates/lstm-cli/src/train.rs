//! `lstm train`: from a text to a trained model.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, anyhow, bail};
use clap::CommandFactory;
use lstm::formats::FormatError;
use lstm::formats::tensorboard::Curves;
use lstm::model::LanguageModelConfig;
use lstm::nn::config::{Readout, Wiring};
use lstm::nn::precision::Precision;
use lstm::plan::{self, Chosen, Decided, Larger, NotWords, Ready};
use lstm::report::Report as Page;
use lstm::run::config::RunConfig;
use lstm::run::error::TrainError;
use lstm::run::training::Member;
use lstm::text::corpus::Corpus;
use lstm::text::tokenizer::TokenizerKind;
use lstm::train::data::Data;
use lstm::train::event::{End, Outcome};
use lstm::train::pretrained::Inherited;
use lstm::train::ranks::{Orders, check_ranks};
use lstm::train::shards::Exchanged;
use lstm::train::trainer::{Bound, Trainer};
use serde_json::json;

use crate::Cli;
use crate::find;
use crate::flags;
use crate::members::{self, Ended};
use crate::notes;
use crate::output::{
    BELOW_FLOOR, NO_SPELLING, NO_WORDS, Taken, band, batches, best, came_of, count, expected_json, grouped, loss_json,
    note_unit, parts, perplexity, seconds, talk, until, use_threads,
};
use crate::progress::Progress;
use crate::ranks::{self, Company};
use crate::repeat;
use crate::signals::Signals;
use crate::stdin;
use crate::task_train::Kept;
use crate::train_options::Train;

/// Trains and prints.
pub fn run(mut options: Train) -> Result<ExitCode> {
    if options.run.find_lr {
        ranks::refuse("--find-lr tries rates in one process; start one")?;
        use_threads(options.run.threads)?;
        return find::rate(&options);
    }
    if options.run.find_batch {
        ranks::refuse("--find-batch measures in one process; start one")?;
        use_threads(options.run.threads)?;
        return find::batch(&options);
    }
    let signals = Signals::watch()?;
    let company = Company::join(&signals)?;
    use_threads(options.run.threads.or(company.threads()))?;
    if let Some(code) = company.follow(&signals) {
        return Ok(code);
    }
    // Until it is dropped the others wait for what it says.
    let orders = company.orders();
    options.ranks = company.count();
    let (mut trainer, curves) = match &options.run.resume {
        Some(folder) => resume(&options, folder)?,
        None => begin(&options, &signals, &orders)?,
    };
    signals.begin();
    if !trainer.is_locked() {
        talk("note     this file system has no locks, so nothing keeps a second process from writing the same run");
    }
    describe(&trainer);
    let mut curves = Some(curves);
    let mut ended = Vec::new();
    loop {
        let Some(outcome) = train(&options, &mut trainer, curves.take(), (&company, &orders, &signals))? else {
            return Ok(ExitCode::from(signals.exit_code()));
        };
        if trainer.member().is_none() {
            report(&trainer, &outcome, options.run.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        ended.push(Ended::of(&trainer, outcome));
        if !trainer.has_next_member() {
            members::report(&trainer, &ended, options.run.json)?;
            return Ok(ExitCode::SUCCESS);
        }
        let run = trainer.whole_run().display().to_string();
        trainer = trainer.next_member().map_err(|error| members::stopped(&run, error))?;
        members::describe(&trainer);
    }
}

/// Trains a run, or a member of it, to its end, or until a signal stops it: then there is no outcome. `curves`: those of the run, if it is the
/// first.
fn train(
    options: &Train,
    trainer: &mut Trainer,
    curves: Option<Option<Curves>>,
    (company, orders, signals): (&Company, &Orders<'_>, &Signals),
) -> Result<Option<Outcome>> {
    match (trainer.ended_by(), trainer.member()) {
        (Some(bound), None) => talk(format_args!(
            "note     the run is over: {}; lstm train --resume {} {}",
            ended_by(bound),
            trainer.folder().display(),
            longer(trainer, bound)
        )),
        (Some(_), Some(Member { number, of })) => talk(format_args!("note     member {number} of {of} is trained")),
        (None, _) => {}
    }
    let page = Page::begin(trainer, command(options, trainer));
    let folder = options.run.tensorboard.as_ref().map(|folder| members::curves_folder(folder, trainer));
    let curves = match (curves, &folder) {
        (Some(of_first), _) => of_first,
        (None, Some(folder)) => Some(Curves::open(folder, trainer.step() > 0)?),
        (None, None) => None,
    };
    let mut kept = Kept::begin(trainer, page, curves, options.run.tensorboard.as_deref())?;
    company.note_go_on(orders, kept.go_on());
    kept.train(Progress::new(), |observer| trainer.run_on(orders, observer, Some(&signals.stop)))
}

/// The command that repeats a run that begins here; one that goes on has it in its report already.
fn command(options: &Train, trainer: &Trainer) -> Option<String> {
    let is_another = trainer.member().is_some_and(|member| member.number > 1);
    if options.run.resume.is_some() || is_another {
        return None;
    }
    let given = repeat::given(std::env::args());
    // What was planned for a machine and a time is repeated by its choices.
    Some(match repeat::chosen(trainer.config()).filter(|_| options.is_planned()) {
        Some(chosen) => format!("{given}\n\n# what it chose, on any machine:\n{chosen}"),
        None => given,
    })
}

/// Says where the text comes from, and which files of a folder are read as what.
pub fn say_text(config: &RunConfig, from: String) -> Result<()> {
    talk(format_args!("text     {from}"));
    if let Some(layout) = Data::layout(&config.data)? {
        talk(format_args!("files    {layout}"));
    }
    Ok(())
}

/// Begins a run: its folder is this process's before the text is read, which may take a while.
fn begin(options: &Train, signals: &Signals, orders: &Orders<'_>) -> Result<(Trainer, Option<Curves>)> {
    let mut config = options.config()?;
    let mut claim = options.claim()?;
    let leftovers = claim.leftovers();
    signals.tidy(move || leftovers.remove());
    let curves = open_curves(options)?;
    let from = if options.reads_stdin() { "standard input".to_owned() } else { config.data.source() };
    say_text(&config, from)?;
    if options.reads_stdin() {
        config.data.train = Some(stdin::spool(&mut claim)?);
    }
    let data = read(options, &mut config, Some(orders))?;
    check_ranks(&config.training, orders.count(), true)?;
    if options.waits_for_validation() && data.valid.is_none() {
        bail!("--patience waits for a better validation, but there is no validation text; give one by --valid");
    }
    // From here on there is something to keep.
    signals.begin();
    let progress = Progress::new();
    let is_taught = !config.teaching.is_none();
    progress.stage(if is_taught { "reading the text with the teachers" } else { "making the model" });
    let trainer = Trainer::begin(config, data, claim)?;
    progress.finish();
    Ok((trainer, curves))
}

/// The curves that are asked for, before anything takes time.
fn open_curves(options: &Train) -> Result<Option<Curves>> {
    let curves = options.run.tensorboard.as_ref().map(|folder| Curves::open(folder, options.run.resume.is_some()));
    Ok(curves.transpose()?)
}

/// Goes on with a run.
fn resume(options: &Train, folder: &Path) -> Result<(Trainer, Option<Curves>)> {
    let curves = open_curves(options)?;
    let progress = Progress::new();
    progress.stage("reading the text and the checkpoint");
    let resumed = Trainer::resume(folder, options.extension()?);
    let trainer = resumed.map_err(|error| match error {
        TrainError::Format(error @ FormatError::Write { .. }) => {
            anyhow!("{error}; then go on with: lstm train --resume {}", folder.display())
        }
        error => error.into(),
    })?;
    progress.finish();
    say_text(trainer.config(), trainer.config().data.source())?;
    if let Some(note) = trainer.note() {
        talk(format_args!("note     {note}"));
    }
    Ok((trainer, curves))
}

/// A bound that a run has reached.
pub fn ended_by(bound: Bound) -> String {
    match bound {
        Bound::Epochs(epochs) => format!("its {} are trained", count(epochs as u64, "epoch")),
        Bound::Steps(steps) => format!("its {} are taken", count(steps, "step")),
        Bound::Budget(budget) => format!("its time of {} is used", seconds(budget)),
        Bound::Patience(epochs) => {
            format!("its validation was no better for {}", count(epochs as u64, "epoch"))
        }
    }
}

/// The options that let it go on, with values that would.
fn longer(trainer: &Trainer, bound: Bound) -> String {
    let option = match bound {
        Bound::Epochs(epochs) => format!("--epochs {}", epochs.saturating_mul(2)),
        Bound::Steps(steps) => format!("--steps {}", steps.saturating_mul(2)),
        Bound::Budget(budget) => format!("--budget {:.0}s", 2.0 * budget),
        Bound::Patience(_) => "--patience 0".to_owned(),
    };
    let schedule = trainer.config().training.schedule;
    let rate = if trainer.has_spent_its_rate() {
        format!(" --learning-rate {}", schedule.learning_rate / 2.0)
    } else {
        String::new()
    };
    format!("{option}{rate} would go on with it")
}

/// Reads the texts, and chooses the run for them where no preset says what it is. `orders`: to those who will share its steps.
pub fn read(options: &Train, config: &mut RunConfig, orders: Option<&Orders<'_>>) -> Result<Data> {
    let progress = Progress::new();
    // The text may be a copy of standard input.
    let train = config.data.train.clone();
    let overlay = |chosen| -> Result<_> {
        let mut chosen = options.over(chosen)?;
        chosen.data.train = train.clone();
        Ok(chosen)
    };
    let decided = Decided { orders, ..options.decided(&overlay) };
    let ready = plan::prepare(options.basis(), &decided, &mut |stage| progress.stage(stage))?;
    progress.finish();
    if let Ready::Planned(chosen) = &ready {
        explain(chosen);
    }
    let (settings, data) = ready.into_parts();
    *config = settings;
    Ok(data)
}

/// The share of a time budget from which on it is said what validation and test take.
const MUCH_EVALUATION: f64 = 0.4;

/// Explains what was chosen, and why.
fn explain(chosen: &Chosen) {
    let Chosen { plan, data, facts, evaluation, measured, not_words, precision, expected, cut } = chosen;
    let (config, size, model) = (&plan.config, &plan.size, &plan.config.model);
    let noun = data.tokenizer.kind().noun();
    let read = grouped(size.tokens as u64);
    match config.training.budget {
        Some(budget) => talk(format_args!(
            "plan     {} at {:.1} GFLOP/s, enough for {read} {noun} in {} with the model below",
            if facts.ranks > 1 {
                format!("each of {} ranks trains", facts.ranks)
            } else {
                "this machine trains".to_owned()
            },
            facts.rate * 6e-9,
            seconds(budget)
        )),
        None => talk(format_args!(
            "plan     {read} {noun} are read, by a model of the size that two fast cores{} train in {}",
            if facts.ranks > 1 { format!(" for each of {} ranks", facts.ranks) } else { String::new() },
            seconds(facts.seconds)
        )),
    }
    if let Some(precision) = precision {
        talk(format_args!("         {precision}"));
    }
    let per_line = data.train.tokens() as f64 / data.train.lines.max(1) as f64;
    talk(format_args!(
        "         the text is {} {noun} of {} kinds, {per_line:.0} a line",
        grouped(data.train.tokens() as u64),
        grouped(model.vocabulary as u64)
    ));
    if measured.len() > 1 {
        let kinds: Vec<String> = measured.iter().map(|kind| format!("{} {:.2}", kind.kind.noun(), kind.bits)).collect();
        let why = match not_words {
            Some(NotWords::Unknown(share)) => format!("; {:.0} % of its words would be unknown", 100.0 * share),
            Some(NotWords::Kinds(kinds)) => format!("; {} words are too many to score", grouped(*kinds as u64)),
            None => String::new(),
        };
        talk(format_args!("         counted on a sample, bits a character: {}{why}", kinds.join(", ")));
    }
    let scored = config.candidates.map_or(String::new(), |candidates| {
        let share = 100.0 * config.candidates_until;
        format!(", {} of them scored in a step for {share:.0} % of the time", grouped(candidates as u64))
    });
    talk(format_args!(
        "         {} of {}{}: every {} passes {} weights{scored}",
        count(model.lstm.layers as u64, "layer"),
        model.lstm.hidden,
        residual(model),
        noun.trim_end_matches('s'),
        grouped(size.weights as u64)
    ));
    let times = if size.epochs < 1.0 {
        format!("{:.0} % of the text is read, once", 100.0 * size.epochs)
    } else {
        format!("the text is read {:.1} times", size.epochs)
    };
    let members = config.training.members();
    let most = if config.training.epochs.is_some() && config.training.budget.is_some() {
        ", which takes less time than there is"
    } else {
        ""
    };
    talk(format_args!("         {times}{most}, so dropout is {}", model.dropout));
    if config.unigram_bias {
        let company = if config.spectral_embedding { ", and from what stands beside them" } else { "" };
        talk(format_args!("         it starts from how often {noun} occur{company}"));
    }
    if let Some(Larger { rows, rate }) = plan.larger {
        talk(format_args!(
            "         a step has {rows:.1} times the rows of one machine's, so the rate is {rate:.2} times as high and rises over as many \
             steps (LEGW)"
        ));
    }
    talk(format_args!(
        "         {}, {}; every choice can be made otherwise by its option",
        batches(config, Taken::Here),
        config.training.learning()
    ));
    if members > 1 {
        talk(format_args!(
            "         {members} such models are trained one after the other, each with a seed of its own, and used as one; --members 1 trains one"
        ));
    }
    talk(match expected {
        Ok(expectation) if members > 1 => format!("expected test perplexity of each {}", band(expectation)),
        Ok(expectation) => format!("expected test perplexity {}", band(expectation)),
        Err(why) => {
            let why = flags::with_flags(&why.to_string(), &Cli::command());
            format!("expected nothing is said of the test perplexity: {why}")
        }
    });
    if let Some(budget) = config.training.budget.filter(|budget| *evaluation > MUCH_EVALUATION * budget) {
        talk(format_args!(
            "note     validation and test take about {} of the {} with it; give shorter ones, or more time",
            seconds(*evaluation),
            seconds(budget)
        ));
    }
    if let Some((most, all)) = cut {
        let [most, all] = [most, all].map(|bytes| *bytes as f64 / f64::from(1 << 20));
        talk(format_args!(
            "         these are {most:.1} MiB from all over a text of {all:.1} MiB, more than there is time to read"
        ));
    }
}

/// Said of layers that have them.
fn residual(model: &LanguageModelConfig) -> &'static str {
    if model.lstm.residual { " with residual connections" } else { "" }
}

/// Describes the input as it was understood, and the model that will be trained.
fn describe(trainer: &Trainer) {
    let (data, config, model) = (trainer.data(), trainer.config(), &trainer.config().model);
    let kind = config.tokenizer;
    for (name, corpus) in [("train", Some(&data.train)), ("valid", data.valid.as_ref()), ("test", data.test.as_ref())] {
        if let Some(corpus) = corpus {
            let (tokens, lines) = (corpus.ids.len() as u64, count(corpus.lines as u64, "line"));
            let documents = match corpus.document_starts.len() as u64 {
                0 => String::new(),
                documents => format!(" of {}", count(documents, "document")),
            };
            let unknown = 100.0 * corpus.unknown as f64 / tokens as f64;
            // Every byte is known.
            let unknown = match kind {
                TokenizerKind::Bytes => String::new(),
                _ => format!(", {unknown:.2} % of them unknown"),
            };
            talk(format_args!("{name:<8} {} {} in {lines}{documents}{unknown}", grouped(tokens), kind.noun()));
        }
    }
    note_unit(config.training.precision);
    if config.training.precision != Precision::F32 && model.lstm.variant.layer_norm {
        talk(format_args!(
            "note     layer normalisation divides by the deviation of a few units, which magnifies what products in {} round; --precision f32 \
             rounds none of it, and is what a planned run with it is in",
            config.training.precision
        ));
    }
    for note in &data.notes {
        talk(format_args!("note     {}", notes::sentence(note)));
    }
    let unasked = config.vocabulary.min_count.or(config.vocabulary.max_size.map(|size| size as u64)).is_none();
    if unasked && kind == TokenizerKind::Words && 10 * data.train.unknown > data.train.ids.len() {
        talk(
            "note     words that occur once are read as <unk>; --min-count 1 keeps them, --tokenizer chars needs none",
        );
    }
    if let (Some(from), Some(inherited)) = (&config.fine_tuning.from, &data.inherited) {
        let words = |count: usize| grouped(count as u64);
        let Inherited { kept, added, dropped, .. } = inherited;
        talk(format_args!(
            "from     {}: {} {} kept, {} added, {} dropped",
            from.display(),
            words(*kept),
            kind.noun(),
            words(*added),
            words(*dropped)
        ));
    }
    if let Some(took) = trainer.teaching_seconds() {
        let models: Vec<String> = config.teaching.models.iter().map(|model| model.display().to_string()).collect();
        talk(format_args!(
            "teachers {}, with a weight of {}; they read the text in {}",
            models.join(", "),
            config.teaching.weight,
            seconds(took)
        ));
    }
    if let Some(parts) = parts(&config.fine_tuning, 0) {
        talk(format_args!("parts    {parts}"));
    }
    let of = match (model.lstm.layers, model.lstm.wiring) {
        (1, _) => "one layer".to_owned(),
        (layers, Wiring::Scores) => format!("{layers} layers joined by their scores,"),
        (layers, wiring) => format!("{layers} {wiring} layers"),
    };
    let projection = model.lstm.projection.map(|size| format!(" projected to {size}")).unwrap_or_default();
    let readout = if model.lstm.readout == Readout::Hidden { "" } else { ", the output gate read out" };
    let cells =
        if model.lstm.variant.is_plain() { String::new() } else { format!(", cells with {}", model.lstm.variant) };
    let mixture =
        if model.softmaxes == 1 { String::new() } else { format!(", a mixture of {} softmaxes", model.softmaxes) };
    let horizon = model.lstm.horizon.map(|steps| format!(", gradient cut every {}", count(steps as u64, "step")));
    talk(format_args!(
        "model    vocabulary {}, embedding {}, {of} of {}{}{projection}{cells}{readout}{mixture}{}: {}",
        grouped(model.vocabulary as u64),
        model.embedding(),
        model.lstm.hidden,
        residual(model),
        horizon.unwrap_or_default(),
        count(trainer.model().layout().len(), "parameter")
    ));
    let training = &config.training;
    talk(format_args!("training {}, {}, until {}", batches(config, Taken::Here), training.learning(), until(training)));
    let from =
        if trainer.step() > 0 { format!(", going on after step {}", grouped(trainer.step())) } else { String::new() };
    talk(format_args!("run      {}{from}", trainer.folder().display()));
}

/// What sharing the steps took.
fn exchange(exchanged: &Exchanged) -> String {
    let Exchanged { ranks, shards, steps, computing, waiting, travelling, beneath, sent, whole, .. } = *exchanged;
    let each = |seconds: f64| 1e3 * seconds / steps.max(1) as f64;
    let mebibytes = |bytes: u64| bytes as f64 / steps.max(1) as f64 / f64::from(1 << 20);
    format!(
        "a step of {shards} shards on {ranks} ranks: {:.1} ms of gradients, {:.1} of them with travel beneath, {:.1} ms of waiting, {:.1} ms \
         of travel; rank 0 sends {:.2} of {:.2} MiB",
        each(computing),
        each(beneath),
        each(waiting),
        each(travelling),
        mebibytes(sent),
        mebibytes(whole)
    )
}

/// The results, on standard output.
fn report(trainer: &Trainer, outcome: &Outcome, as_json: bool) -> Result<()> {
    let data = trainer.data();
    let losses: [(_, _, Option<&Corpus>); 3] = [
        ("train", Some(outcome.train), Some(&data.train)),
        ("valid", outcome.valid, data.valid.as_ref()),
        ("test", outcome.test, data.test.as_ref()),
    ];
    let reached = outcome.test.map(|loss| loss.perplexity());
    let mut out = std::io::stdout().lock();
    if as_json {
        let mut result = json!({
            "run": trainer.folder(),
            "floor": data.floor,
            "seconds": outcome.seconds,
            "tokens_per_second": outcome.tokens_per_second,
            "parameters": trainer.model().layout().len(),
            "best": outcome.best.map(|(epoch, step)| json!({"epoch": epoch, "step": step})),
            "exchange": outcome.exchanged,
            "members": null,
            "expected": trainer.expected().map(|expected| expected_json(expected, reached, trainer.trained_tokens())),
        });
        for (name, loss, corpus) in losses {
            result[name] = loss_json(loss, corpus);
        }
        writeln!(out, "{result}")?;
        return Ok(());
    }
    writeln!(out, "         perplexity   per word  bits/char    tokens   unknown   model")?;
    let floor = data.floor.unwrap_or(0.0);
    for (name, loss, corpus) in losses {
        if let (Some(loss), Some(corpus)) = (loss, corpus) {
            let of_tokens = perplexity(loss.perplexity());
            let of_words = corpus.word_perplexity(loss).map_or("-".to_owned(), perplexity);
            let bits = corpus.bits_per_char(loss).map_or("-".to_owned(), |bits| format!("{bits:.3}"));
            let (tokens, unknown) = (loss.tokens, corpus.unknown);
            let below = if loss.perplexity() < floor { format!("; {BELOW_FLOOR}") } else { String::new() };
            let model = match outcome.best {
                _ if name == "train" => format!("as it was in epoch {}{below}", outcome.epochs),
                Some((epoch, step)) => best(epoch, step),
                None => String::new(),
            };
            writeln!(out, "{name:<7} {of_tokens:>11} {of_words:>10} {bits:>10} {tokens:>9} {unknown:>9}   {model}")?;
        }
    }
    if losses.iter().any(|(_, loss, corpus)| loss.is_some() && corpus.is_some_and(|corpus| corpus.spelling.is_none())) {
        talk(format_args!("note     no figure per word or character: {NO_SPELLING}"));
    }
    if losses.iter().any(|(_, loss, corpus)| loss.is_some() && corpus.is_some_and(|corpus| !corpus.has_words())) {
        talk(format_args!("note     no figure per word: {NO_WORDS}"));
    }
    if let Some(floor) = data.floor {
        writeln!(out, "floor   {floor:>11.2}   no model can beat it on a new text")?;
    }
    if let Some(trigram) = data.trigram {
        writeln!(out, "trigram {trigram:>11.2}   what counting three words reaches")?;
    }
    if let (Some(expected), Some(reached)) = (trainer.expected(), reached) {
        writeln!(out, "expected test perplexity {}", came_of(&expected, reached, trainer.trained_tokens()))?;
    }
    writeln!(out, "{:.1} s, {} tokens/s", outcome.seconds, grouped(outcome.tokens_per_second as u64))?;
    if let Some(exchanged) = outcome.exchanged.filter(|exchanged| exchanged.ranks > 1) {
        writeln!(out, "{}", exchange(&exchanged))?;
    }
    if outcome.end == End::Patience {
        talk("stopped early: validation no longer improved");
    }
    talk(format_args!("try: lstm generate {}", trainer.folder().display()));
    Ok(())
}
