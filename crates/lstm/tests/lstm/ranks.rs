//! Several ranks train one model, as threads that send one another messages: the bits are those of one process, whatever depends on the
//! whole batch; a run goes on with other ranks; what is wrong with one rank ends the run on all.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use lstm::model::penalty::Penalties;
use lstm::nn::dropout::{DropoutKind, DropoutRates};
use lstm::optim::averaging::Averaging;
use lstm::optim::optimizer::OptimizerKind;
use lstm::plan::{Basis, Decided, Ready, prepare};
use lstm::run::Length;
use lstm::run::config::RunConfig;
use lstm::run::error::TrainError;
use lstm::run::folder::{Existing, RunFolder};
use lstm::run::settings::Settings as _;
use lstm::run::training::Wire;
use lstm::text::batch::Batching;
use lstm::text::documents::Documents;
use lstm::train::event::{End, Event, Outcome};
use lstm::train::ranks::greeting::{Greeting, greet};
use lstm::train::ranks::{Orders, Ranks, follow};
use lstm::train::trainer::{Extension, Trainer};
use tempfile::TempDir;

use crate::training::{Left, config, create, left, rewrite, texts};

/// Messages on their way, by who sent them to whom.
type Underway = HashMap<(usize, usize), VecDeque<Vec<u8>>>;

/// The messages between ranks that are threads.
#[derive(Debug, Default)]
struct Post {
    /// By sender and receiver.
    messages: Mutex<Underway>,
    came: Condvar,
    bytes: AtomicU64,
    /// A rank that died.
    dead: Mutex<Option<usize>>,
}

#[derive(Debug)]
struct Thread {
    rank: usize,
    count: usize,
    post: Arc<Post>,
    /// The exchanges after which this one dies.
    dies_after: Option<AtomicU64>,
}

impl Ranks for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn count(&self) -> usize {
        self.count
    }

    fn exchange(&self, send: &[(usize, &[u8])], receive: &mut [(usize, &mut [u8])]) -> Result<(), TrainError> {
        let lost = |rank: usize| TrainError::Unusable(format!("{} died", self.name(rank)));
        if self.dies_after.as_ref().is_some_and(|left| left.fetch_sub(1, Ordering::Relaxed) == 0) {
            *self.post.dead.lock().unwrap() = Some(self.rank);
            self.post.came.notify_all();
            return Err(lost(self.rank));
        }
        let mut messages = self.post.messages.lock().unwrap();
        for (to, bytes) in send {
            assert_ne!(*to, self.rank);
            self.post.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            messages.entry((self.rank, *to)).or_default().push_back(bytes.to_vec());
        }
        self.post.came.notify_all();
        for (from, bytes) in receive {
            let message = loop {
                if let Some(message) = messages.get_mut(&(*from, self.rank)).and_then(VecDeque::pop_front) {
                    break message;
                }
                if let Some(dead) = *self.post.dead.lock().unwrap() {
                    return Err(lost(dead));
                }
                let (held, waited) = self.post.came.wait_timeout(messages, Duration::from_secs(60)).unwrap();
                assert!(!waited.timed_out(), "rank {} waits for rank {from}", self.rank);
                messages = held;
            };
            bytes.copy_from_slice(&message);
        }
        Ok(())
    }
}

fn company(count: usize) -> Vec<Thread> {
    let post = Arc::new(Post::default());
    (0..count).map(|rank| Thread { rank, count, post: post.clone(), dies_after: None }).collect()
}

/// Runs `trainer` as rank 0 of these.
fn run_on(mut trainer: Trainer, ranks: Vec<Thread>, until: Option<u64>) -> Result<Outcome, TrainError> {
    let stop = AtomicBool::new(false);
    let mut observer = |event: &Event| {
        if matches!(event, Event::Step { step, .. } if Some(*step) == until) {
            stop.store(true, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let (first, others) = ranks.split_first().unwrap();
        for other in others {
            scope.spawn(move || follow(other, &mut |_| ()));
        }
        trainer.run_on(&Orders::to(first), &mut observer, Some(&stop))
    })
}

/// What a run of this configuration leaves on so many ranks.
fn trained(config: &RunConfig, ranks: usize) -> Left {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    run_on(create(config, &run).unwrap(), company(ranks), None).unwrap();
    left(&run)
}

/// A small run in so many shards.
fn sharded(texts: &TempDir, batch: usize, shards: usize) -> RunConfig {
    let mut config = config(texts);
    (config.training.batch, config.training.shards, config.training.epochs) = (batch, Some(shards), Some(2));
    config
}

#[test]
fn a_model_has_the_same_bits_on_any_number_of_ranks() {
    let texts = texts(900);
    let plain = sharded(&texts, 8, 8);
    let locked = DropoutRates {
        kind: DropoutKind::Locked,
        input: 0.1,
        hidden: 0.2,
        output: 0.3,
        embedding: 0.1,
        weights: 0.2,
        start: 0.5,
    };
    // Everything that could depend on the whole batch.
    let mut regularised = sharded(&texts, 7, 5);
    regularised.model.dropout = locked;
    regularised.model.penalties = Penalties { activation: 0.2, temporal: 0.1, label_smoothing: 0.05 };
    regularised.model.lstm.variant.zoneout.hidden = 0.1;
    (regularised.variable_segment, regularised.partial_shuffle) = (true, true);
    let mut candidates = sharded(&texts, 6, 3);
    (candidates.candidates, candidates.candidates_until) = (Some(6), 0.6);
    candidates.training.optimizer = OptimizerKind::Sgd;
    candidates.training.schedule.learning_rate = 1.0;
    let mut tied = sharded(&texts, 6, 3);
    (tied.model.tied, tied.candidates, tied.model.lstm.input) = (true, Some(6), 9);
    tied.training.adam.lazy = true;
    tied.model.dropout = locked;
    let mut lines = sharded(&texts, 6, 4);
    (lines.batching, lines.training.accumulate) = (Batching::Lines, 2);
    let mut windows = sharded(&texts, 5, 5);
    windows.batching = Batching::Windows(3);
    windows.training.average = Averaging::Ema(0.9);
    let mut documents = sharded(&texts, 4, 2);
    documents.data.documents = Some(Documents::Line);
    documents.training.average = Averaging::non_monotone(1).unwrap();
    documents.training.epochs = Some(6);
    for (what, config) in [
        ("plain", plain),
        ("regularised", regularised),
        ("candidates", candidates),
        ("tied and lazy", tied),
        ("lines", lines),
        ("windows", windows),
        ("documents", documents),
    ] {
        let shards = config.training.shards.unwrap();
        let alone = trained(&config, 1);
        for ranks in [2, 3, shards] {
            if ranks <= shards {
                assert!(trained(&config, ranks) == alone, "{what} on {ranks} ranks");
            }
        }
    }
}

/// A run whose layers are large enough to travel by themselves, while those below are computed.
fn in_pieces(texts: &TempDir, batch: usize, shards: usize) -> RunConfig {
    let mut config = sharded(texts, batch, shards);
    (config.training.epochs, config.training.steps) = (None, Some(5));
    (config.model.lstm.layers, config.model.lstm.hidden, config.model.lstm.input) = (2, 64.into(), 32);
    config
}

#[test]
fn pieces_that_travel_while_the_rest_is_computed_change_no_bit() {
    let texts = texts(900);
    let plain = in_pieces(&texts, 8, 8);
    let mut regularised = in_pieces(&texts, 7, 5);
    regularised.model.dropout = DropoutRates { kind: DropoutKind::Locked, weights: 0.2, ..DropoutRates::all(0.2) };
    regularised.model.penalties = Penalties { activation: 0.2, temporal: 0.1, label_smoothing: 0.05 };
    let mut candidates = in_pieces(&texts, 6, 3);
    (candidates.candidates, candidates.candidates_until) = (Some(6), 0.6);
    let mut tied = in_pieces(&texts, 6, 3);
    (tied.model.tied, tied.model.lstm.residual, tied.model.lstm.input) = (true, true, 64);
    let mut mixture = in_pieces(&texts, 4, 4);
    mixture.model.softmaxes = 3;
    // The last batch of an epoch has fewer lines, so that some shards have none.
    let mut lines = in_pieces(&texts, 100, 4);
    lines.batching = Batching::Lines;
    for (what, config) in [
        ("plain", plain),
        ("regularised", regularised),
        ("candidates", candidates),
        ("tied", tied),
        ("mixture", mixture),
        ("lines", lines),
    ] {
        let alone = trained(&config, 1);
        for ranks in 2..=config.training.shards.unwrap() {
            let folder = tempfile::tempdir().unwrap();
            let run = folder.path().join("run");
            let outcome = run_on(create(&config, &run).unwrap(), company(ranks), None).unwrap();
            // The second layer with the small readout behind it, the first, the embedding.
            assert!(outcome.exchanged.unwrap().pieces >= 3, "{what} on {ranks} ranks");
            assert!(left(&run) == alone, "{what} on {ranks} ranks");
        }
    }
}

#[test]
fn a_plan_knows_the_ranks_and_what_it_chose_is_recorded() {
    let texts = texts(900);
    let text = texts.path().join("train.txt");
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let planned = |orders: &Orders<'_>, length: Length| {
        let overlay = |mut config: RunConfig| {
            config.data.train = Some(text.clone());
            config.model.lstm.hidden = 8.into();
            config.training.batch = 12;
            config.training.set_length(length);
            Ok::<_, TrainError>(config)
        };
        let decided = Decided { orders: Some(orders), ..Decided::by(&overlay) };
        match prepare(Basis::Planned, &decided, &mut |_| ()).unwrap() {
            Ready::Planned(chosen) => *chosen,
            Ready::Preset(_) => unreachable!(),
        }
    };
    let ranks = company(3);
    std::thread::scope(|scope| {
        let (first, others) = ranks.split_first().unwrap();
        for other in others {
            scope.spawn(move || follow(other, &mut |_| ()).unwrap());
        }
        let orders = Orders::to(first);
        let by_time = planned(&orders, Length { budget: Some(1.0), ..Length::default() });
        assert!(by_time.facts.ranks == 3 && by_time.facts.travel > 0.0, "{:?}", by_time.facts);
        let chosen = planned(&orders, Length { steps: Some(9), ..Length::default() });
        let (training, larger) = (&chosen.plan.config.training, chosen.plan.larger.unwrap());
        assert_eq!((training.batch, training.shards, larger.rows), (12, Some(3), 3.0));
        let mut trainer = Trainer::create(chosen.plan.config, chosen.data, &run, Existing::Refuse).unwrap();
        trainer.run_on(&orders, &mut |_| (), None).unwrap();
    });
    let recorded = RunConfig::load(&RunFolder(run.clone())).unwrap();
    assert!(trained(&recorded, 1) == left(&run));
}

#[test]
fn a_run_goes_on_with_other_ranks_as_if_nothing_had_happened() {
    let texts = texts(900);
    let config = sharded(&texts, 8, 8);
    let whole = trained(&config, 1);
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let interrupted = |outcome: Outcome| assert_eq!(outcome.end, End::Interrupted);
    interrupted(run_on(create(&config, &run).unwrap(), company(8), Some(5)).unwrap());
    let resume = |run: &Path| Trainer::resume(run, Extension::default()).unwrap();
    interrupted(run_on(resume(&run), company(3), Some(9)).unwrap());
    interrupted(run_on(resume(&run), company(1), Some(12)).unwrap());
    run_on(resume(&run), company(5), None).unwrap();
    assert!(left(&run) == whole);
}

#[test]
fn shards_are_close_to_one_gradient_of_all_rows_and_other_bits() {
    let texts = texts(900);
    let mut whole = sharded(&texts, 8, 4);
    whole.model.dropout = DropoutRates::default();
    (whole.training.optimizer, whole.training.schedule.learning_rate) = (OptimizerKind::Sgd, 0.5);
    let cut = trained(&whole, 2);
    whole.training.shards = None;
    let whole = trained(&whole, 1);
    let (mut most, mut differ) = (0f32, false);
    for (name, (_, values)) in &whole.1 {
        for (a, b) in values.iter().zip(&cut.1[name].1) {
            most = most.max((a - b).abs());
            differ |= a != b;
        }
    }
    assert!(differ && most < 1e-4, "{most}");
}

#[test]
fn rounded_gradients_travel_in_half_the_bytes_and_learn_as_much() {
    let texts = texts(2000);
    let run = |wire: Wire| {
        let mut config = sharded(&texts, 8, 4);
        config.training.wire = wire;
        let folder = tempfile::tempdir().unwrap();
        run_on(create(&config, &folder.path().join("run")).unwrap(), company(4), None).unwrap()
    };
    let (whole, rounded) = (run(Wire::F32), run(Wire::Bf16));
    let sent = |outcome: &Outcome| outcome.exchanged.unwrap().sent;
    // Other parameters leave other rows without a gradient.
    assert!((sent(&whole) as f64 / (2 * sent(&rounded)) as f64 - 1.0).abs() < 0.05);
    let [whole, rounded] = [whole, rounded].map(|outcome| outcome.valid.unwrap().mean());
    assert!(whole != rounded && (whole - rounded).abs() < 0.01, "{whole} {rounded}");
}

#[test]
fn rows_that_nobody_touched_do_not_travel() {
    let texts = texts(4000);
    let mut config = sharded(&texts, 4, 4);
    (config.training.epochs, config.training.steps) = (None, Some(3));
    (config.model.lstm.hidden, config.model.lstm.layers, config.model.lstm.input) = (4.into(), 1, 64);
    config.vocabulary.min_count = Some(1);
    config.segment = 2;
    config.candidates = Some(3);
    config.candidates_until = 1.0;
    let folder = tempfile::tempdir().unwrap();
    let trainer = create(&config, &folder.path().join("run")).unwrap();
    let ranks = company(4);
    let post = ranks[0].post.clone();
    let outcome = run_on(trainer, ranks, None).unwrap();
    let exchanged = outcome.exchanged.unwrap();
    assert_eq!((exchanged.ranks, exchanged.shards, exchanged.steps), (4, 4, 3));
    assert!(exchanged.sent > 0 && exchanged.sent < exchanged.whole / 2, "{exchanged:?}");
    assert!(post.bytes.load(Ordering::Relaxed) > exchanged.sent);
    assert!(exchanged.computing > 0.0 && exchanged.travelling > 0.0);
}

#[test]
fn a_value_that_is_no_number_or_a_rank_that_dies_ends_the_run_on_all() {
    let texts = texts(900);
    let folder = tempfile::tempdir().unwrap();
    let config = sharded(&texts, 4, 4);
    let run = folder.path().join("nan");
    drop(create(&config, &run).unwrap());
    rewrite(&run.join("checkpoint.safetensors"), |tensors, _| {
        let bias = &mut tensors.get_mut("readout.bias").unwrap().1;
        bias.fill(-3e38);
        bias[0] = 3e38;
    });
    // It returns when all threads have ended.
    let broken = run_on(Trainer::resume(&run, Extension::default()).unwrap(), company(3), None).unwrap_err();
    assert!(broken.to_string().contains("is not a finite number"), "{broken}");

    let config = sharded(&texts, 4, 4);
    let run = folder.path().join("dead");
    for after in [0, 1, 3, 30, 60] {
        let mut ranks = company(3);
        ranks[2].dies_after = Some(AtomicU64::new(after));
        let trainer = match run.exists() {
            true => Trainer::resume(&run, Extension::default()).unwrap(),
            false => create(&config, &run).unwrap(),
        };
        let died = run_on(trainer, ranks, None).unwrap_err();
        assert_eq!(died.to_string(), "rank 2 died", "after {after} exchanges");
    }
    run_on(Trainer::resume(&run, Extension::default()).unwrap(), company(2), None).unwrap();
    assert!(left(&run) == trained(&config, 1));
}

#[test]
fn what_does_not_go_together_is_refused_at_the_start() {
    let texts = texts(900);
    let folder = tempfile::tempdir().unwrap();
    let mut config = sharded(&texts, 4, 2);
    let refused = |config: &RunConfig, ranks: usize| {
        let run = folder.path().join(format!("{ranks}-{:?}", config.training.shards));
        run_on(create(config, &run).unwrap(), company(ranks), None).unwrap_err().to_string()
    };
    assert!(refused(&config, 3).contains("there are 3 ranks, but a step of this run is cut into 2 shards"));
    config.training.shards = None;
    assert!(refused(&config, 2).contains("in one piece"));
    config.training.shards = Some(5);
    let many = create(&config, &folder.path().join("many")).unwrap_err().to_string();
    assert!(many.contains("`shards` is 5, but a batch has 4 rows"), "{many}");

    // What would change nothing, and keep the run from being verified; one that was begun on several may go on alone.
    (config.training.shards, config.training.wire) = (Some(2), Wire::Bf16);
    assert!(refused(&config, 1).contains("this is one process, in which none does"));
    let run = folder.path().join("alone");
    run_on(create(&config, &run).unwrap(), company(2), Some(3)).unwrap();
    run_on(Trainer::resume(&run, Extension::default()).unwrap(), company(1), None).unwrap();

    // A rank that was asked for something else.
    let own = |seed: &str| Greeting::of(vec!["train".to_owned(), "--seed".to_owned(), seed.to_owned()]);
    let ranks = company(3);
    let said: Vec<Option<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .iter()
            .map(|ranks| scope.spawn(move || greet(ranks, &own(if ranks.rank == 1 { "2" } else { "1" })).err()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap().map(|error| error.to_string())).collect()
    });
    assert!(said.iter().all(|one| *one == said[0]));
    let said = said[0].as_deref().unwrap();
    assert!(said.starts_with("rank 1 was started with other arguments than rank 0: 2 where that has 1"), "{said}");
}

#[test]
fn a_text_that_another_rank_does_not_have_is_refused_by_name() {
    let texts = texts(900);
    let config = sharded(&texts, 4, 4);
    let folder = tempfile::tempdir().unwrap();
    let trainer = create(&config, &folder.path().join("run")).unwrap();
    // Rank 0 has read it; the others read what it has become since.
    let train = texts.path().join("train.txt");
    let text = std::fs::read_to_string(&train).unwrap();
    std::fs::write(&train, text.replacen(' ', "\n", 3)).unwrap();
    let said = run_on(trainer, company(2), None).unwrap_err().to_string();
    assert!(said.starts_with("rank 1: ") && said.contains("is another text here than at rank 0"), "{said}");
}
