//! The options of `lstm train` that say how long a run is, of any task.

use lstm::run::Length;

/// How long: the first bound that is reached ends the run.
#[derive(clap::Args)]
#[command(next_help_heading = "Length")]
pub struct LengthOptions {
    /// Most epochs
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Most steps; the schedule is stretched over them [default: no bound]
    #[arg(long)]
    pub steps: Option<u64>,
    /// Most time, such as 60 or 60s, 10m, 1h30m, 1d; the schedule is stretched over it [default: 10m for a planned run without
    /// another bound; else no bound]
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub budget: Option<f64>,
    /// Stop after so many epochs without a better validation; 0 for never
    #[arg(long)]
    pub patience: Option<usize>,
}

/// The most that a time can be: what a run of it would do no longer depends on it.
const LONGEST: (f64, &str) = (365.0 * 86_400.0, "365d");

/// Seconds of `60`, `90s`, `10m`, `1h30m`, `1d`.
pub fn duration(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a duration; write it like 90s, 10m, 1h30m or 1d, or as seconds like 60");
    let number = |digits: &str| digits.parse::<f64>().ok().filter(|n| *n >= 0.0).ok_or_else(wrong);
    let (mut total, mut digits, mut smallest) = (0.0, String::new(), f64::INFINITY);
    for c in text.chars() {
        let unit = match c {
            's' => 1.0,
            'm' => 60.0,
            'h' => 3600.0,
            'd' => 86_400.0,
            '0'..='9' | '.' => {
                digits.push(c);
                continue;
            }
            _ => return Err(wrong()),
        };
        // From the largest unit down: 30m1h is a slip of the pen.
        if unit >= smallest {
            return Err(wrong());
        }
        smallest = unit;
        total += unit * number(&digits)?;
        digits.clear();
    }
    if !digits.is_empty() {
        if smallest < f64::INFINITY {
            return Err(wrong());
        }
        total = number(&digits)?;
    }
    match total {
        total if total > LONGEST.0 => Err(format!("`{text}` is too long; the most is {}", LONGEST.1)),
        total if total > 0.0 => Ok(total),
        _ => Err(wrong()),
    }
}

impl LengthOptions {
    /// The bounds that are given.
    pub fn length(&self) -> Length {
        let Self { epochs, steps, budget, patience } = *self;
        Length { epochs, steps, budget, patience }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_nonsense_is_not() {
        let given =
            ["90s", "10m", "1h30m", "60", "0.5", "1d", "1d2h3m4.5s", "365d"].map(|text| duration(text).unwrap());
        assert_eq!(given, [90.0, 600.0, 5_400.0, 60.0, 0.5, 86_400.0, 93_784.5, 31_536_000.0]);
        for text in
            ["", "m", "1x", "-5s", "-5", "0s", "0", "1h30", "30m1h", "1s1s", "1e3", "inf", "nan", "1..5s", " 5s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for text in ["366d", "1000000000h", "99999999999999999999", "8761h"] {
            assert!(duration(text).unwrap_err().contains("the most is 365d"), "{text}");
        }
    }
}
