//! Means of small untrained models, against their definition.

use super::*;
use crate::generate::{Generator, Sampling};
use crate::run::folder::RunFolder;
use crate::run::preset::Preset;
use crate::run::saved::{ModelCard, Origin};
use crate::score::{Lines, Text, score_mean};
use crate::text::batch::Batching;
use crate::text::source::Source;
use crate::text::tokenizer::{TokenizerKind, VocabularyOptions};

fn words(tokens: usize) -> String {
    (0..tokens).map(|i| format!("w{}{}", i * i % 17 % 11, if i % 9 == 8 { "\n" } else { " " })).collect()
}

/// Untrained models of the words of a text, of several sizes, with preferences.
fn ensemble(batching: Batching, seeds: &[u64]) -> Ensemble {
    let options = VocabularyOptions {
        line_markers: batching != Batching::Stream,
        min_count: Some(1),
        ..VocabularyOptions::default()
    };
    let tokenizer = Tokenizer::build(TokenizerKind::Words, &Source::from_text(&words(900)), options, false).unwrap();
    let member = |&seed: &u64| {
        let mut config = Preset::Default.config();
        (config.batching, config.training.batch, config.segment) = (batching, 4, 8);
        (config.model.lstm.hidden, config.model.lstm.input) = ((8 + 3 * seed as usize).into(), 6);
        config.model.softmaxes = if seed == 3 { 2 } else { 1 };
        config.model.vocabulary = tokenizer.vocabulary_size();
        let model = LanguageModel::new(config.model.clone()).unwrap();
        let mut params = model.initialise(&config.training.init, seed);
        params.values_mut().iter_mut().for_each(|value| *value *= 3.0);
        let origin = Origin::Run(RunFolder("run".into()));
        let (card, weights, tokenizer) = (ModelCard::default(), Weights::F32, tokenizer.clone());
        let run = LoadedRun { origin, config, tokenizer, model, params, card, weights };
        Member { path: format!("run-{seed}").into(), run }
    };
    let members: Vec<Member> = seeds.iter().map(member).collect();
    Ensemble { shares: vec![1.0 / members.len() as f64; members.len()], members }
}

fn corpus(ensemble: &Ensemble, tokens: usize) -> Corpus {
    Corpus::read(&Source::from_text(&words(tokens)), &ensemble.first().tokenizer, false).unwrap()
}

/// The mean's surprisal of a stream, token by token, in double precision.
fn expected(ensemble: &Ensemble, corpus: &Corpus) -> f64 {
    let of = |Member { run, .. }: &Member| -> Vec<f64> {
        let mut stream = run.model.stream(&run.params, 1).unwrap();
        let mut last = run.tokenizer.start();
        let ids = (0..corpus.ids.len()).map(|at| corpus.ids.get(at));
        let p = |id: u32| {
            let logits = stream.step(&[std::mem::replace(&mut last, id)]);
            let sum: f64 = logits.iter().map(|z| f64::from(*z).exp()).sum();
            f64::from(logits[id as usize]).exp() / sum
        };
        ids.map(p).collect()
    };
    let all: Vec<Vec<f64>> = ensemble.members().iter().map(of).collect();
    let mean = |at: usize| ensemble.shares().iter().zip(&all).map(|(share, p)| share * p[at]).sum::<f64>();
    -(0..corpus.ids.len()).map(|at| mean(at).ln()).sum::<f64>()
}

#[test]
fn the_mean_is_that_of_the_probabilities_read_in_columns_or_not() {
    let ensemble = ensemble(Batching::Stream, &[1, 2, 3]).with_shares(&[2.0, 1.0, 1.0]).unwrap();
    assert_eq!(ensemble.shares(), [0.5, 0.25, 0.25]);
    for tokens in [500, 9000] {
        let corpus = corpus(&ensemble, tokens);
        let read = ensemble.read(&corpus, &mut |_, _| ()).unwrap();
        let (mean, expected) = (read.mean(ensemble.shares()), expected(&ensemble, &corpus));
        assert_eq!(mean.tokens, corpus.ids.len());
        assert!((mean.nll / expected - 1.0).abs() < 1e-5, "{} {expected}", mean.nll);
        let members: Vec<Loss> = read.members().collect();
        let in_the_mean: f64 = members.iter().zip(ensemble.shares()).map(|(loss, share)| share * loss.nll).sum();
        assert!(mean.nll < in_the_mean, "{mean:?} {members:?}");
    }
}

#[test]
fn each_member_s_own_figure_is_that_of_its_evaluation_in_every_batching() {
    for batching in [Batching::Stream, Batching::Lines, Batching::Windows(3)] {
        let ensemble = ensemble(batching, &[1, 2]);
        let corpus = corpus(&ensemble, 5000);
        let read = ensemble.read(&corpus, &mut |_, _| ()).unwrap();
        for (loss, Member { run, .. }) in read.members().zip(ensemble.members()) {
            let rows = run.config.training.batch;
            let alone = Evaluation::new(&run.model, &run.params, &run.tokenizer, &corpus, batching, rows).unwrap();
            assert_eq!(loss, alone.finish(), "{batching}");
        }
        // A model beside itself says what it says alone.
        let twice = self::ensemble(batching, &[2, 2]);
        let read = twice.read(&corpus, &mut |_, _| ()).unwrap();
        let (mean, alone) = (read.mean(twice.shares()), read.members().next().unwrap());
        assert!((mean.nll / alone.nll - 1.0).abs() < 1e-6 && mean.tokens == alone.tokens, "{mean:?} {alone:?}");
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let ensemble = ensemble(Batching::Stream, &[1, 2, 3]);
    let corpus = corpus(&ensemble, 5000);
    let figure = |threads| {
        lstm_kernels::with_threads(threads, || {
            let read = ensemble.read(&corpus, &mut |_, _| ()).unwrap();
            let shares = read.tuned();
            (read.mean(ensemble.shares()).nll.to_bits(), read.mean(&shares).nll.to_bits(), shares)
        })
    };
    assert_eq!(figure(1), figure(2));
    assert_eq!(figure(1), figure(3));
}

#[test]
fn tuned_shares_are_the_best_and_sum_to_one() {
    let ensemble = ensemble(Batching::Stream, &[1, 2, 3]);
    let read = ensemble.read(&corpus(&ensemble, 3000), &mut |_, _| ()).unwrap();
    let shares = read.tuned();
    assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9 && shares.iter().all(|share| *share >= 0.0), "{shares:?}");
    let best = read.mean(&shares).nll;
    for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)] {
        let by = shares[from].min(0.01);
        let mut moved = shares.clone();
        moved[from] -= by;
        moved[to] += by;
        // They come slowly to a share of nothing.
        assert!(read.mean(&moved).nll >= best * (1.0 - 1e-5), "{shares:?} {moved:?}");
    }
    assert!(best <= read.mean(ensemble.shares()).nll);
}

#[test]
fn lines_are_scored_and_texts_written_by_the_mean() {
    for (batching, lines) in
        [(Batching::Stream, Lines::Joined), (Batching::Stream, Lines::Alone), (Batching::Lines, Lines::Joined)]
    {
        let ensemble = ensemble(batching, &[1, 2, 3]);
        let source = Source::from_text(&words(400));
        let text = Text::read(&source, ensemble.first(), false).unwrap();
        let mut sum = 0.0;
        let loss = score_mean::<TrainError>(&ensemble, &text, lines, &mut |_| (), &mut |line| {
            sum += line.loss().nll;
            let v = ensemble.first().tokenizer.vocabulary_size() as u32;
            assert!(line.tokens.iter().all(|token| (1..=v).contains(&token.rank)));
            // What has more than half of the probability is the likeliest.
            assert!(line.tokens.iter().all(|token| token.nats > 0.693 || token.rank == 1));
            Ok(())
        })
        .unwrap();
        assert!((sum / loss.nll - 1.0).abs() < 1e-6);
        if lines == Lines::Joined {
            let read = ensemble.read(&text.corpus, &mut |_, _| ()).unwrap();
            let mean = read.mean(ensemble.shares());
            assert!((loss.nll / mean.nll - 1.0).abs() < 1e-5 && loss.tokens == mean.tokens, "{loss:?} {mean:?}");
        }
        let write = |ensemble: &Ensemble, sampling| -> Vec<u32> {
            let rules = Rules::of(ensemble.first());
            Generator::of_ensemble(ensemble, None, rules, sampling, 5, 0).unwrap().take(60).collect()
        };
        assert_eq!(write(&ensemble, Sampling::default()), write(&ensemble, Sampling::default()));
        // Nothing but the second member: what it writes alone.
        let only = self::ensemble(batching, &[1, 2]).with_shares(&[0.0, 3.0]).unwrap();
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(write(&only, greedy), write(&self::ensemble(batching, &[2]), greedy));
    }
}

#[test]
fn members_that_cannot_be_joined_say_why() {
    let refused = |other: &Ensemble, of: &Ensemble| {
        let (run, first) = (other.first(), of.first());
        check_alike(run, Path::new("other"), &first.config, &first.tokenizer, "first").unwrap_err().to_string()
    };
    let (stream, lines) = (ensemble(Batching::Stream, &[1]), ensemble(Batching::Lines, &[1]));
    let error = refused(&lines, &stream);
    assert!(error.contains("other does not read the tokens of first") && error.contains("with markers"), "{error}");
    let error = refused(&ensemble(Batching::Windows(3), &[1]), &lines);
    assert!(error.contains("windows(3)") && error.contains("`batches`"), "{error}");
    let mut more = ensemble(Batching::Stream, &[1]);
    let text = words(900).replace("w9", "x9");
    let options = VocabularyOptions { min_count: Some(1), ..VocabularyOptions::default() };
    more.members[0].run.tokenizer =
        Tokenizer::build(TokenizerKind::Words, &Source::from_text(&text), options, false).unwrap();
    let error = refused(&more, &stream);
    assert!(error.contains("its token ") && error.contains("x9"), "{error}");
    let shares = |shares: &[f64]| ensemble(Batching::Stream, &[1, 2]).with_shares(shares).unwrap_err().to_string();
    assert!(shares(&[1.0]).contains("1 number for 2 models"));
    for wrong in [[0.0, 0.0], [-1.0, 2.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
        assert!(shares(&wrong).contains("`shares` are numbers from 0"), "{wrong:?}");
    }
    let none: [&Path; 0] = [];
    assert!(Ensemble::open(none).unwrap_err().to_string().contains("no members"));
}
