//! A pass that adapts, on small texts.

use super::dynamic::GradientScale;
use super::settings::Tuned;
use super::tune::{tune_cache, tune_dynamic};
use super::*;
use crate::model::LanguageModel;
use crate::run::folder::RunFolder;
use crate::run::preset::Preset;
use crate::run::saved::{ModelCard, Origin};
use crate::text::source::Source;
use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

const CACHE: CacheSettings = CacheSettings { theta: 0.5, weight: 0.3, window: 100 };
const DYNAMIC: DynamicSettings = DynamicSettings { rate: 0.001, decay: 0.001, segment: 8 };

/// Words in an order of their own, over and over.
fn repetitive(start: usize, tokens: usize) -> String {
    (start..start + tokens).map(|i| format!("w{}{}", i * i % 17 % 11, if i % 9 == 8 { "\n" } else { " " })).collect()
}

/// An untrained model of the words of a text.
fn run(batching: Batching) -> LoadedRun {
    let options = VocabularyOptions {
        line_markers: batching != Batching::Stream,
        min_count: Some(1),
        ..VocabularyOptions::default()
    };
    let tokenizer =
        Tokenizer::build(TokenizerKind::Words, &Source::from_text(&repetitive(0, 900)), options, false).unwrap();
    let mut config = Preset::Default.config();
    (config.batching, config.training.batch, config.segment) = (batching, 4, 8);
    (config.model.lstm.hidden, config.model.lstm.input) = (24.into(), 16);
    config.model.vocabulary = tokenizer.vocabulary_size();
    let model = LanguageModel::new(config.model.clone()).unwrap();
    let params = model.initialise(&config.training.init, 1);
    LoadedRun {
        origin: Origin::Run(RunFolder("run".into())),
        config,
        tokenizer,
        model,
        params,
        card: ModelCard::default(),
        weights: crate::nn::precision::Weights::F32,
    }
}

fn corpus(run: &LoadedRun, text: &str) -> Corpus {
    Corpus::read(&Source::from_text(text), &run.tokenizer, false).unwrap()
}

fn scale(run: &LoadedRun) -> GradientScale {
    GradientScale::collect(run, &corpus(run, &repetitive(0, 900)), &mut |_, _| ()).unwrap()
}

fn plain(run: &LoadedRun, corpus: &Corpus) -> Loss {
    let (batching, rows) = (run.config.batching, run.config.training.batch);
    Evaluation::new(&run.model, &run.params, &run.tokenizer, corpus, batching, rows).unwrap().finish()
}

fn adapted(run: &LoadedRun, corpus: &Corpus, cache: Option<CacheSettings>, dynamic: Option<DynamicSettings>) -> Loss {
    let scale = scale(run);
    Adapted::new(run, corpus, cache, dynamic.map(|dynamic| (&scale, dynamic))).unwrap().finish()
}

#[test]
fn without_weight_or_rate_it_is_plain_evaluation() {
    for batching in [Batching::Stream, Batching::Lines, Batching::Windows(3)] {
        let run = run(batching);
        let text = corpus(&run, &repetitive(5, 800));
        let expected = plain(&run, &text);
        let none = CacheSettings { weight: 0.0, ..CACHE };
        let close = |loss: Loss| {
            assert_eq!(loss.tokens, expected.tokens, "{batching}");
            assert!((loss.nll / expected.nll - 1.0).abs() < 1e-6, "{batching}: {loss:?} and {expected:?}");
        };
        let cached = adapted(&run, &text, Some(none), None);
        close(cached);
        if batching == Batching::Stream {
            assert_eq!(cached, expected);
        }
        let still = DynamicSettings { rate: 0.0, ..DYNAMIC };
        close(adapted(&run, &text, None, Some(still)));
        close(adapted(&run, &text, Some(none), Some(still)));
    }
}

#[test]
fn each_helps_on_a_repetitive_text_and_so_do_both() {
    for batching in [Batching::Stream, Batching::Lines, Batching::Windows(3)] {
        let run = run(batching);
        let text = corpus(&run, &repetitive(5, 2000));
        let plain = plain(&run, &text).perplexity();
        let cache = adapted(&run, &text, Some(CACHE), None).perplexity();
        let dynamic = adapted(&run, &text, None, Some(DYNAMIC)).perplexity();
        let both = adapted(&run, &text, Some(CACHE), Some(DYNAMIC)).perplexity();
        assert!(cache < 0.97 * plain && dynamic < 0.97 * plain, "{batching}: {plain}, {cache}, {dynamic}");
        assert!(both < cache, "{batching}: {cache}, {dynamic}, {both}");
    }
}

#[test]
fn no_token_is_predicted_by_what_has_seen_it() {
    for batching in [Batching::Stream, Batching::Lines, Batching::Windows(3)] {
        let run = run(batching);
        let scale = scale(&run);
        // Two texts that part after 600 tokens.
        let start = repetitive(5, 603);
        let texts = [" w1 w1 w1 w1 w1\n", " w5 w7 w2 w10 w3\n"].map(|end| format!("{start}{}", end.repeat(40)));
        let surprisals = texts.map(|text| {
            let corpus = corpus(&run, &text);
            let mut pass = Adapted::new(&run, &corpus, Some(CACHE), Some((&scale, DYNAMIC))).unwrap();
            let mut all = Vec::new();
            while pass.advance() {
                let nll = pass.scorer.scored().nll.iter();
                all.extend(nll.zip(&pass.shares).map(|(&nll, &share)| mixed(nll, share, CACHE.weight).to_bits()));
            }
            all
        });
        let [one, other] = &surprisals;
        let same = one.iter().zip(other).take_while(|(one, other)| one == other).count();
        // Windows predict fewer of them.
        assert!((530..680).contains(&same) && same + 50 < one.len(), "{batching}: {same} of {}", one.len());
    }
}

#[test]
fn the_first_segment_is_scored_by_the_trained_model() {
    let run = run(Batching::Stream);
    let text = corpus(&run, &repetitive(5, 7));
    let fast = DynamicSettings { rate: 1.0, ..DYNAMIC };
    let (loss, expected) = (adapted(&run, &text, None, Some(fast)), plain(&run, &text));
    assert_eq!(loss.tokens, 8);
    assert!((loss.nll - expected.nll).abs() < 1e-5, "{loss:?} and {expected:?}");
    let longer = corpus(&run, &repetitive(5, 8));
    assert!((adapted(&run, &longer, None, Some(fast)).nll - plain(&run, &longer).nll).abs() > 1e-3);
}

#[test]
fn a_strong_decay_holds_the_model_where_it_was() {
    let run = run(Batching::Stream);
    let text = corpus(&run, &repetitive(5, 900));
    let held = DynamicSettings { decay: 1e9, ..DYNAMIC };
    let (free, held, plain) =
        (adapted(&run, &text, None, Some(DYNAMIC)), adapted(&run, &text, None, Some(held)), plain(&run, &text));
    assert!((plain.nll - held.nll).abs() < 0.1 * (plain.nll - free.nll), "{free:?} {held:?} {plain:?}");
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let run = run(Batching::Stream);
    let text = corpus(&run, &repetitive(5, 900));
    let pass = |threads| {
        lstm_kernels::with_threads(threads, || adapted(&run, &text, Some(CACHE), Some(DYNAMIC)).nll.to_bits())
    };
    assert_eq!(pass(1), pass(2));
    assert_eq!(pass(1), pass(3));
}

#[test]
fn tuning_finds_what_helps_and_the_grid_repeats_the_pass() {
    let run = run(Batching::Stream);
    let text = corpus(&run, &repetitive(5, 900));
    let scale = scale(&run);
    let plain = plain(&run, &text);
    let grid = tune_cache(&run, &text, None, &mut |_| ()).unwrap();
    let (settings, loss) = grid.best();
    // Windows longer than the text are left out, all but one; a line feed is a token too.
    assert_eq!((grid.windows.as_slice(), grid.tokens), (&[100, 200, 500, 1000][..], 1000));
    assert!(loss.nll < plain.nll);
    let repeated = adapted(&run, &text, Some(settings), None);
    assert!((repeated.nll / loss.nll - 1.0).abs() < 1e-6, "{repeated:?} and {loss:?}");

    let mut trials = 0;
    let mut watch = |event| trials += usize::from(matches!(event, tune::Event::Tried(_)));
    let best = tune_dynamic(&run, &text, &scale, &mut watch).unwrap();
    assert!(best.loss.nll < plain.nll && best.settings.rate > 0.0 && (5..40).contains(&trials), "{best:?}, {trials}");
    let repeated = adapted(&run, &text, None, Some(best.settings));
    assert!((repeated.nll / best.loss.nll - 1.0).abs() < 1e-6, "{repeated:?} and {best:?}");
    let both = tune_cache(&run, &text, Some((&scale, best.settings)), &mut |_| ()).unwrap();
    assert!(both.best().1.nll <= best.loss.nll * (1.0 + 1e-6));
}

#[test]
fn tuned_settings_are_kept_for_their_model_and_refused_if_broken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = RunFolder(folder.path().to_owned());
    let run = run(Batching::Stream);
    let mut tuned = Tuned::load(&folder, &run.params).unwrap();
    assert_eq!(tuned, Tuned::new(&run.params));
    (tuned.cache, tuned.dynamic) = (Some(CACHE), Some(DYNAMIC));
    tuned.save(&folder).unwrap();
    assert_eq!(Tuned::load(&folder, &run.params).unwrap(), tuned);
    let other = run.model.initialise(&run.config.training.init, 2);
    assert_eq!(Tuned::load(&folder, &other).unwrap(), Tuned::new(&other));
    let text = std::fs::read_to_string(folder.adaptation()).unwrap();
    for (from, to, why) in [
        ("weight = 0.3", "weight = 1.0", "`cache-weight` is 1"),
        ("window = 100", "window = 0", "`cache-window` is 0"),
        ("rate = 0.001", "rate = -1.0", "`dynamic-rate` is -1"),
        ("version = 2", "version = 3", "its version is 3"),
        ("weight = 0.3", "weight = 0.31", "its checksum is wrong"),
        ("model = \"", "model = \"0", "its checksum is wrong"),
        ("theta", "beta", "unknown field"),
    ] {
        let broken = text.replace(from, to);
        assert_ne!(broken, text, "{from}");
        std::fs::write(folder.adaptation(), broken).unwrap();
        let error = Tuned::load(&folder, &run.params).unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("remove it"), "{error}");
    }
}

#[test]
fn settings_out_of_their_bounds_are_sentences() {
    let cache = |settings: CacheSettings| settings.validate().unwrap_err().to_string();
    for theta in [-0.1, f32::NAN, f32::INFINITY] {
        assert!(cache(CacheSettings { theta, ..CACHE }).contains("`cache-theta` is"));
    }
    for weight in [-0.1, 1.0, f32::NAN] {
        assert!(cache(CacheSettings { weight, ..CACHE }).contains("at least 0 and below 1"));
    }
    assert!(cache(CacheSettings { window: 0, ..CACHE }).contains("`cache-window` is 0"));
    let dynamic = |settings: DynamicSettings| settings.validate().unwrap_err().to_string();
    assert!(dynamic(DynamicSettings { rate: -1.0, ..DYNAMIC }).contains("`dynamic-rate` is -1"));
    assert!(dynamic(DynamicSettings { decay: f32::NAN, ..DYNAMIC }).contains("`dynamic-decay` is NaN"));
    assert!(dynamic(DynamicSettings { segment: 0, ..DYNAMIC }).contains("`dynamic-segment` is 0"));
    assert!((CACHE.validate(), DYNAMIC.validate()) == (Ok(()), Ok(())));
}
