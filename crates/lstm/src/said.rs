//! Numbers as sentences and tables say them: digits in groups, one thing or several, times, figures.

use std::fmt::Display;

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    groups.join(",")
}

/// `1 epoch`, `2 epochs`. `thing`: its name in the singular, whose plural has an s more.
pub fn count(number: impl TryInto<u64>, thing: &str) -> String {
    let number = number.try_into().unwrap_or(u64::MAX);
    format!("{} {thing}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A perplexity as people read it, also that of a training gone wrong.
pub fn perplexity(value: f64) -> String {
    if value < 1e6 { format!("{value:.2}") } else { format!("{value:.1e}") }
}

/// Seconds as people say them.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => format!("{} s", rounded(s, 1)),
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s if s < 360_000.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.0} days", s / 86400.0),
    }
}

/// A number by its first so many digits, those behind the last that is not 0 left out: what single precision and its products have behind
/// them is no part of it.
pub fn rounded(value: impl Into<f64> + Display, digits: usize) -> String {
    let value = value.into();
    let first = format!("{value:.*e}", digits.saturating_sub(1)).parse().unwrap_or(value);
    if first == 0.0 || (1e-4..1e15).contains(&f64::abs(first)) { format!("{first}") } else { format!("{first:e}") }
}

/// The digits that a rate has to people: single precision has seven, of which products lose the last.
pub(crate) const DIGITS: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_times_rounded() {
        assert_eq!([0, 999, 1000, 4_653_200].map(grouped), ["0", "999", "1,000", "4,653,200"].map(str::to_owned));
        assert_eq!(
            [0, 1, 2000].map(|n: u64| count(n, "step")),
            ["0 steps", "1 step", "2,000 steps"].map(str::to_owned)
        );
        assert_eq!(
            [8.0312, 999_999.0, 1.5e30, f64::INFINITY].map(perplexity),
            ["8.03", "999999.00", "1.5e30", "inf"].map(str::to_owned)
        );
        assert_eq!(
            [0.0, 0.04, 0.3, 0.96, 7.4, 600.0, 7200.0, 864_000.0].map(seconds),
            ["0 s", "0.04 s", "0.3 s", "1 s", "7 s", "10 min", "2.0 h", "10 days"].map(str::to_owned)
        );
    }

    #[test]
    fn a_product_of_single_precision_is_said_as_what_it_is() {
        let product = 0.01_f32 * 0.002;
        assert_eq!((product.to_string(), rounded(product, DIGITS)), ("0.000020000001".to_owned(), "2e-5".to_owned()));
        for (value, said) in
            [(0.0, "0"), (20.0, "20"), (0.002, "0.002"), (-1.25, "-1.25"), (1e-8, "1e-8"), (f64::INFINITY, "inf")]
        {
            assert_eq!(rounded(value, DIGITS), said);
        }
        assert_eq!(rounded(0.001_234_f32, 2), "0.0012");
    }
}
