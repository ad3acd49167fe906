//! The tails of three distributions, to 1e-9 of their value and better; `tests/corpus.rs` compares them with SciPy's.
//!
//! The error function is libm's. Student's distribution stands here because the library for it, statrs 0.19, does not reach that:
//! against the same figures it is off by 2e-9 with a million degrees of freedom and by 1e-5 with a thousand million, its quantile
//! by 3e-6 with a hundred thousand, and with a thousand million the search for it does not end. (A continued fraction that ends
//! early, and differences of large logarithms of the gamma function, which keep few digits.)

/// From here on Student's distribution is reckoned from the normal one.
const DEGREES_MANY: f64 = 20_000.0;
/// Terms of the continued fraction: it converges long before.
const TERMS_MAX: u32 = 10_000;
/// Steps of the search for a quantile.
const STEPS_MAX: u32 = 100;
const TINY: f64 = 1e-300;

/// How likely a standard normal value is at least as far from 0 as `z`.
///
/// ```
/// use experiment_rules::{Z95, distribution::normal_two_sided};
/// assert!((normal_two_sided(-Z95) - 0.05).abs() < 1e-15);
/// ```
pub fn normal_two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() * std::f64::consts::FRAC_1_SQRT_2)
}

/// How likely a chi-squared value with so many degrees of freedom is above `x`: a finite sum, as they are whole.
///
/// ```
/// use experiment_rules::distribution::chi_squared_above;
/// assert!((chi_squared_above(4.0, 2) - (-2.0_f64).exp()).abs() < 1e-15);
/// ```
pub fn chi_squared_above(x: f64, degrees: u32) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let half = x / 2.0;
    // Γ(k/2, x/2) / Γ(k/2), from k = 1 or 2 on by the functional equation.
    let is_odd = degrees % 2 == 1;
    let (mut sum, mut term, mut k) = if is_odd {
        (libm::erfc(half.sqrt()), (-half).exp() * (half / std::f64::consts::PI).sqrt() * 2.0, 1.0)
    } else {
        ((-half).exp(), (-half).exp() * half, 2.0)
    };
    while k < f64::from(degrees) {
        sum += term;
        k += 2.0;
        term *= x / k;
    }
    sum
}

/// How likely a value of Student's distribution is at least as far from 0 as `t`.
///
/// ```
/// // With one degree of freedom it is Cauchy's distribution.
/// assert!((experiment_rules::distribution::student_two_sided(1.0, 1.0) - 0.5).abs() < 1e-14);
/// ```
pub fn student_two_sided(t: f64, degrees: f64) -> f64 {
    if degrees > DEGREES_MANY {
        return student_of_many(t, degrees);
    }
    let square = t * t / degrees;
    // x = degrees / (degrees + t²), and what is left of 1, each without cancellation.
    let (x, rest) = (1.0 / (1.0 + square), square / (1.0 + square));
    let a = degrees / 2.0;
    if square == 0.0 {
        return 1.0;
    }
    // x^a (1 − x)^½ / B(a, ½), as B(a, ½) = √π Γ(a) / Γ(a + ½).
    let front = (log_gamma_ratio(a) - a * square.ln_1p()).exp() * (rest / std::f64::consts::PI).sqrt();
    if x < (a + 1.0) / (a + 2.5) {
        (front * fraction(a, 0.5, x) / a).min(1.0)
    } else {
        (1.0 - front * fraction(0.5, a, rest) / 0.5).clamp(0.0, 1.0)
    }
}

/// The same by G. W. Hill's expansion (1970, algorithm 395) around the normal distribution. Its error falls with the fourth power
/// of the degrees of freedom, while that of the fraction grows.
fn student_of_many(t: f64, degrees: f64) -> f64 {
    let a = degrees - 0.5;
    let b = 48.0 * a * a;
    let y = a * (t * t / degrees).ln_1p();
    let correction = (((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b);
    normal_two_sided(y.sqrt() * ((correction + y + 3.0) / b + 1.0))
}

/// The value of Student's distribution that leaves 2.5 % above it; `degrees` from 1 on.
///
/// ```
/// use experiment_rules::distribution::student_quantile95;
/// assert!((student_quantile95(10.0) - 2.228138852).abs() < 1e-9);
/// ```
pub fn student_quantile95(degrees: f64) -> f64 {
    // Between the normal distribution's and Cauchy's; Newton's steps, halved where they would leave the interval.
    let (mut low, mut high) = (1.9, 13.0);
    let mut t = crate::Z95 * (1.0 + 1.2 / degrees);
    for _ in 0..STEPS_MAX {
        let miss = student_two_sided(t, degrees) - 0.05;
        if miss > 0.0 {
            low = t;
        } else {
            high = t;
        }
        let newton = t + miss / (2.0 * student_density(t, degrees));
        let next = if newton > low && newton < high { newton } else { f64::midpoint(low, high) };
        if (next - t).abs() <= 1e-15 * t {
            return next;
        }
        t = next;
    }
    t
}

fn student_density(t: f64, degrees: f64) -> f64 {
    let tail = (degrees + 1.0) / 2.0 * (t * t / degrees).ln_1p();
    (log_gamma_ratio(degrees / 2.0) - tail).exp() / (degrees * std::f64::consts::PI).sqrt()
}

/// ln Γ(a + ½) − ln Γ(a), by its expansion for large a, to which the functional equation leads: the difference of two
/// logarithms would keep no digits.
fn log_gamma_ratio(a: f64) -> f64 {
    let (mut a, mut below) = (a, 0.0);
    while a < 25.0 {
        below += (0.5 / a).ln_1p();
        a += 1.0;
    }
    let r = 1.0 / (a * a);
    let series = -1.0 / 8.0 + r * (1.0 / 192.0 + r * (-1.0 / 640.0 + r * (17.0 / 14_336.0 + r * (-31.0 / 18_432.0))));
    0.5 * a.ln() + series / a - below
}

/// The continued fraction of the incomplete beta function (W. J. Lentz's way, as I. J. Thompson and A. R. Barnett improved it);
/// it converges fast for x below (a + 1) / (a + b + 2).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let held = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / held(1.0 - (a + b) * x / (a + 1.0));
    let mut product = d;
    for term in 1..=TERMS_MAX {
        let m = f64::from(term);
        for factor in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            d = 1.0 / held(1.0 + factor * d);
            c = held(1.0 + factor / c);
            product *= c * d;
        }
        if (c * d - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_degrees_of_freedom_have_a_plain_formula() {
        for t in [0.001_f64, 0.5, 2.0, 40.0, 1e4] {
            let wanted = 1.0 - t / (2.0 + t * t).sqrt();
            let found = student_two_sided(t, 2.0);
            assert!((found - wanted).abs() < 1e-14, "{t}: {found} {wanted}");
        }
    }

    proptest! {
        /// More degrees of freedom and larger values both leave less outside; the quantile is where 5 % are left.
        #[test]
        fn tails_become_thinner(t in 0.01_f64..50.0, degrees in 1.0_f64..1e6) {
            let own = student_two_sided(t, degrees);
            prop_assert!((0.0..=1.0).contains(&own));
            prop_assert!(student_two_sided(t * 1.01, degrees) <= own);
            prop_assert!(student_two_sided(t, degrees * 1.5) <= own * (1.0 + 1e-9));
            prop_assert!(normal_two_sided(t) <= own * (1.0 + 1e-9));
            prop_assert!((student_two_sided(student_quantile95(degrees), degrees) - 0.05).abs() < 5e-11);
        }
    }
}
