//! A pass that adapts, on small texts.

use super::dynamic::GradientScale;
use super::settings::Tuned;
use super::tune::{tune_cache, tune_dynamic};
use super::*;
use crate::evaluate::Evaluation;
use crate::model::LanguageModel;
use crate::run::folder::RunFolder;
use crate::run::preset::Preset;
use crate::run::saved::{ModelCard, Origin};
use crate::text::batch::Batching;
use crate::text::source::Source;
use crate::text::tokenizer::{Tokenizer, TokenizerKind, VocabularyOptions};

const CACHE: CacheSettings = CacheSettings { theta: 0.5, weight: 0.3, window: 100 };
const DYNAMIC: DynamicSettings = DynamicSettings { rate: 0.001, decay: 0.001, segment: 8, columns: 1 };

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
                let nll = pass.scorer.scored(0).nll.iter();
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

/// Columns are parts of the text with caches of their own, of which all learn together: what a column's tokens are predicted by has seen
/// nothing that is read later.
#[test]
fn columns_learn_together_from_what_is_read_before() {
    let run = run(Batching::Stream);
    let scale = scale(&run);
    let columns = DynamicSettings { columns: 4, ..DYNAMIC };
    let surprisals = |text: &str, dynamic: DynamicSettings| {
        let corpus = corpus(&run, text);
        let mut pass = Adapted::new(&run, &corpus, None, Some((&scale, dynamic))).unwrap();
        let mut all = vec![Vec::new(); pass.scorer.columns()];
        while pass.advance() {
            for (column, all) in all.iter_mut().enumerate() {
                all.extend(pass.scorer.scored(column).nll.iter().map(|nll| nll.to_bits()));
            }
        }
        assert_eq!((all.len(), pass.total().tokens), (dynamic.columns, corpus.ids.len()));
        all
    };
    // 2,000 tokens, 500 a column. What changes at the 300th of the second column changes nothing that is read before.
    let text = repetitive(5, 1800);
    let words: Vec<&str> = text.split_inclusive([' ', '\n']).collect();
    let mut changed = words.clone();
    let at = 800 - 800 / 10;
    changed[at] = if words[at] == "w1 " { "w5 " } else { "w1 " };
    let (before, after) = (surprisals(&text, columns), surprisals(&changed.concat(), columns));
    for (column, (before, after)) in before.iter().zip(&after).enumerate() {
        let same = before.iter().zip(after).take_while(|(before, after)| before == after).count();
        assert!((250..320).contains(&same), "{column}: {same}");
    }
    // Where nothing is learned, they are columns of plain evaluation, which begin with zeros.
    let still = surprisals(&text, DynamicSettings { rate: 0.0, ..columns });
    let whole = surprisals(&text, DynamicSettings { rate: 0.0, ..DYNAMIC });
    let close = |a: &u32, b: &u32| (f32::from_bits(*a) - f32::from_bits(*b)).abs() < 1e-5;
    assert!(still[0].iter().zip(&whole[0]).all(|(a, b)| close(a, b)));
    let plain = plain(&run, &corpus(&run, &text)).perplexity();
    let both = adapted(&run, &corpus(&run, &text), Some(CACHE), Some(columns)).perplexity();
    let learned = adapted(&run, &corpus(&run, &text), None, Some(columns)).perplexity();
    assert!(both < 0.9 * plain && learned < 0.9 * plain, "{plain} {learned} {both}");
}

/// A cache beside a stream that is read in columns gives what it gives beside one row.
#[test]
fn a_cache_looks_back_in_the_order_of_the_text_however_that_is_read() {
    let run = run(Batching::Stream);
    let text = corpus(&run, &repetitive(5, 9000));
    let in_columns = adapted(&run, &text, Some(CACHE), None);
    let still = DynamicSettings { rate: 0.0, segment: 64, ..DYNAMIC };
    let in_a_row = adapted(&run, &text, Some(CACHE), Some(still));
    assert_eq!(in_columns.tokens, text.ids.len());
    assert!((in_columns.nll / in_a_row.nll - 1.0).abs() < 1e-5, "{in_columns:?} {in_a_row:?}");
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

/// Reader and writer learn the same, so that the file is as long as the text is surprising to a model that goes on learning.
#[test]
fn a_text_is_packed_by_a_model_that_goes_on_learning() {
    use crate::pack::Packer;
    for batching in [Batching::Stream, Batching::Lines] {
        let run = run(batching);
        let (scale, text) = (scale(&run), repetitive(5, 3000));
        let packer = || Packer::new(&run.model, &run.params, &run.tokenizer, batching).unwrap();
        let learning = || packer().learning(&scale, DYNAMIC).unwrap();
        let packed = lstm_kernels::with_threads(1, || learning().pack(text.as_bytes(), &mut |_| ()));
        assert_eq!(Packer::learned(&packed).unwrap(), Some(DYNAMIC));
        let back = lstm_kernels::with_threads(3, || learning().unpack(&packed, &mut |_, _| ()));
        assert_eq!(back.unwrap(), text.as_bytes());
        let bits = adapted(&run, &corpus(&run, &text), None, Some(DYNAMIC)).nll / std::f64::consts::LN_2;
        let taken = 8.0 * packed.len() as f64;
        assert!(taken > 0.999 * bits && taken < 1.02 * bits + 700.0, "{batching}: {taken} of {bits}");
        let plain = packer().pack(text.as_bytes(), &mut |_| ());
        assert!(packed.len() < plain.len() && Packer::learned(&plain).unwrap().is_none());
        // Each needs the model that it was packed with, and that to learn as it did.
        let refused = |packer: Packer, packed: &[u8]| packer.unpack(packed, &mut |_, _| ()).unwrap_err().to_string();
        assert!(refused(packer(), &packed).contains("went on learning"));
        assert!(refused(learning(), &plain).contains("did not go on learning"));
        let other = DynamicSettings { rate: 0.002, ..DYNAMIC };
        assert!(refused(packer().learning(&scale, other).unwrap(), &packed).contains("went on learning"));
        let elsewhere = corpus(&run, &repetitive(3, 500));
        let elsewhere = GradientScale::collect(&run, &elsewhere, &mut |_, _| ()).unwrap();
        assert!(refused(packer().learning(&elsewhere, DYNAMIC).unwrap(), &packed).contains("another training text"));
        for cut in [0, 4, 9, 20, 30, packed.len() - 3] {
            assert!(learning().unpack(&packed[..cut], &mut |_, _| ()).is_err(), "{cut}");
        }
        let columns = DynamicSettings { columns: 2, ..DYNAMIC };
        assert!(packer().learning(&scale, columns).err().unwrap().to_string().contains("`dynamic-columns` is 2"));
    }
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
    let best = tune_dynamic(&run, &text, &scale, 1, &mut watch).unwrap();
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
    for columns in [0, 1025] {
        assert!(dynamic(DynamicSettings { columns, ..DYNAMIC }).contains("`dynamic-columns` is"));
    }
    assert!((CACHE.validate(), DYNAMIC.validate()) == (Ok(()), Ok(())));
}
