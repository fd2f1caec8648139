//! Functions that distributions need: ln Γ, its derivative, the incomplete beta function, and softplus.

use std::f64::consts::PI;

/// ln Γ(x) for x > 0, to 1e-14 relative (Stirling's series after the recurrence).
pub(crate) fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series =
        1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0)));
    shift + (x - 0.5) * x.ln() - x + 0.5 * (2.0 * PI).ln() + series / x
}

/// ψ(x) = d ln Γ(x) / dx for x > 0.
pub(crate) fn digamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 10.0 {
        shift -= 1.0 / x;
        x += 1.0;
    }
    let square = 1.0 / (x * x);
    let series = square
        * (1.0 / 12.0 - square * (1.0 / 120.0 - square * (1.0 / 252.0 - square * (1.0 / 240.0 - square / 132.0))));
    shift + x.ln() - 0.5 / x - series
}

/// The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction (Numerical Recipes 6.4).
pub(crate) fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (1.0 - x).ln()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for m in 1..10_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        for step in [even, odd] {
            d = 1.0 / guard(1.0 + step * d);
            c = guard(1.0 + step / c);
            fraction *= c * d;
        }
        if (c * d - 1.0).abs() < 1e-14 {
            break;
        }
    }
    fraction
}

/// ln(1 + eˣ).
pub(crate) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The derivative of [`softplus`]: the logistic function.
pub(crate) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The x whose [`softplus`] is `y` > 0.
pub(crate) fn softplus_inverse(y: f64) -> f64 {
    y + (-(-y).exp_m1()).ln()
}

/// The value below which a standard normal variable lies with probability `p` (Acklam's rational approximation and one step of
/// Halley's method).
pub(crate) fn normal_quantile(p: f64) -> f64 {
    // The logistic approximation is near enough for Newton to finish in a few steps.
    let mut x = (p / (1.0 - p)).ln() / 1.702;
    for _ in 0..60 {
        let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
        let step = ((normal_cdf(x) - p) / density).clamp(-1.0, 1.0);
        x -= step;
        if step.abs() < 1e-13 {
            break;
        }
    }
    x
}

/// Φ(x), by the series of its odd powers (Marsaglia 2004).
pub(crate) fn normal_cdf(x: f64) -> f64 {
    if x.abs() > 8.0 {
        return if x > 0.0 { 1.0 } else { 0.0 };
    }
    let (mut sum, mut term, mut n) = (x, x, 1.0);
    while sum + term != sum {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / (2.0 * PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(value: f64, expected: f64) {
        assert!((value - expected).abs() < 1e-12 * expected.abs().max(1.0), "{value} and {expected}");
    }

    /// By SciPy 1.17 (`scipy.special`, `scipy.stats`).
    #[test]
    fn they_are_scipy_s() {
        near(ln_gamma(0.5), 0.572_364_942_924_700);
        near(ln_gamma(3.7), 1.428_072_326_665_388);
        near(ln_gamma(150.25), 601.261_504_032_499_7);
        near(digamma(0.5), -1.963_510_026_021_423_5);
        near(digamma(3.7), 1.167_153_539_361_511_3);
        near(incomplete_beta(2.0, 3.0, 0.4), 0.524_8);
        near(incomplete_beta(0.5, 7.5, 0.9), 0.999_999_993_289_710_3);
        near(normal_quantile(0.95), 1.644_853_626_951_472_2);
        near(normal_quantile(0.001), -3.090_232_306_167_813_5);
        near(softplus_inverse(softplus(-3.0)), -3.0);
        near(softplus(800.0), 800.0);
        near(logistic(0.3), 0.574_442_516_811_659);
    }
}
