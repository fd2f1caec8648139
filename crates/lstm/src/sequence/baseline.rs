//! What reaches something without a network: the mean and a ridge regression of numbers that are to be said, the nearest neighbour of
//! sequences of numbers that have labels.

use super::config::SequenceConfig;
use super::data::{Examples, SequenceDataset};
use crate::measures::bag_of_words::RidgeOfWords;
use crate::measures::neighbour::NearestNeighbour;
use crate::measures::ridge::{Ridge, Row};
use crate::measures::statistics::{rows, statistics_len};

/// What a baseline says of examples: a name, and the numbers of each example.
pub type Said = (String, Vec<Vec<f64>>);

/// The mean of the training data, and a ridge regression on the words and pairs of words of texts, or on the statistics of sequences of
/// numbers.
pub fn regressions(config: &SequenceConfig, data: &SequenceDataset, examples: &Examples) -> [Said; 2] {
    let train = &data.train;
    let count = config.labels.len();
    let of = |number: usize| train.targets.iter().map(move |targets| targets[number]).collect::<Vec<f64>>();
    let all: Vec<Vec<f64>> = (0..count).map(of).collect();
    let means: Vec<f64> = all.iter().map(|of| of.iter().sum::<f64>() / of.len().max(1) as f64).collect();
    let mean = ("mean".to_owned(), vec![means; examples.sequences.len()]);
    let by_number: Vec<Vec<f64>> = if config.model.numbers.is_some() {
        let features = config.features_of_a_step();
        let known: Vec<Row> = rows(&train.series, &train.series, features).collect();
        let asked: Vec<Row> = rows(&train.series, &examples.series, features).collect();
        let said = |numbers: &Vec<f64>| {
            let ridge = Ridge::fit(&known, numbers, statistics_len(features));
            asked.iter().map(|row| ridge.predict(row)).collect()
        };
        all.iter().map(said).collect()
    } else {
        let said = |numbers: &Vec<f64>| {
            let ridge = RidgeOfWords::fit(&train.texts, numbers);
            examples.texts.iter().map(|text| ridge.predict(text)).collect()
        };
        all.iter().map(said).collect()
    };
    let name = if config.model.numbers.is_some() { "ridge on statistics" } else { "ridge on bag of words" };
    let said = (0..examples.sequences.len()).map(|at| by_number.iter().map(|of| of[at]).collect()).collect();
    [mean, (name.to_owned(), said)]
}

/// The labels of the nearest training sequences by dynamic time warping, on the values' scale, and how that is called.
pub fn nearest(config: &SequenceConfig, data: &SequenceDataset, examples: &Examples) -> (String, Vec<u32>) {
    let features = config.features_of_a_step();
    let scaled = |series: &[Vec<f32>]| -> Vec<Vec<f32>> {
        let scale = |values: &Vec<f32>| {
            let scalers = data.scalers.features.iter().cycle();
            values.iter().zip(scalers).map(|(value, scaler)| scaler.scale(f64::from(*value)) as f32).collect()
        };
        series.iter().map(scale).collect()
    };
    let labels = (0..data.train.sequences.len()).map(|at| data.train.sequences.labels(at)[0]).collect();
    let known = NearestNeighbour::new(scaled(&data.train.series), labels, features);
    let asked = scaled(&examples.series);
    let window = known.window(&asked);
    let name = match window {
        None => "1-NN DTW".to_owned(),
        Some(steps) => format!("1-NN DTW, window {steps}"),
    };
    (name, asked.iter().map(|sequence| known.label(sequence, window)).collect())
}
