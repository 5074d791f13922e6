//! Tables of delay distributions: a table's entry is how many standard deviations off the mean, times 8192.
//!
//! Made by additions, multiplications and divisions only, so that every machine makes the same table.

/// NETEM_DIST_SCALE.
pub const SCALE: i64 = 8192;
const SIZE: usize = 4096;

/// e to the `x` of a small `x`.
fn exp(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for n in 1..20 {
        term *= x / f64::from(n);
        sum += term;
    }
    sum
}

/// The normal distribution: its quantiles, by summing the density from -4 to 4 sigma.
pub fn normal() -> Vec<i16> {
    const STEPS: i32 = 1 << 16;
    let step = 8.0 / f64::from(STEPS);
    let x = |i: i32| f64::from(i - STEPS / 2) * step;
    // The density by its own ratio from one step to the next.
    let mut density = Vec::with_capacity(STEPS as usize + 1);
    let mut d = 1.0;
    for i in 0..=STEPS {
        density.push(d);
        d *= exp(-(x(i) * step) - step * step / 2.0);
    }
    quantiles(&density, |i| x(i as i32))
}

/// Pareto's with shape 3: long waits are rare and very long.
pub fn pareto() -> Vec<i16> {
    // Quantile of 1 - u is u^(-1/3) - mean; mean 1.5, deviation sqrt(3)/2.
    let entry = |i: usize| {
        let u = 1.0 - (i as f64 + 0.5) / SIZE as f64;
        (cube_root(1.0 / u) - 1.5) / 0.866_025_403_784_438_6
    };
    (0..SIZE).map(|i| clamp(entry(i))).collect()
}

/// A quarter normal, three quarters Pareto.
pub fn paretonormal() -> Vec<i16> {
    let both = normal().into_iter().zip(pareto());
    both.map(|(n, p)| ((i32::from(n) + 3 * i32::from(p)) / 4) as i16).collect()
}

fn cube_root(v: f64) -> f64 {
    let mut r = 1.0;
    for _ in 0..60 {
        r = (2.0 * r + v / (r * r)) / 3.0;
    }
    r
}

fn quantiles(density: &[f64], x: impl Fn(usize) -> f64) -> Vec<i16> {
    let total: f64 = density.iter().sum();
    let (mut sum, mut at) = (0.0, 0);
    (0..SIZE)
        .map(|i| {
            let want = total * (i as f64 + 0.5) / SIZE as f64;
            while at < density.len() && sum + density[at] < want {
                sum += density[at];
                at += 1;
            }
            clamp(x(at))
        })
        .collect()
}

fn clamp(sigmas: f64) -> i16 {
    (sigmas * SCALE as f64).clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean 0 and deviation 1, nearly: what a delay with jitter is made of.
    #[test]
    fn moments() {
        // Sixteen bits cut what is four deviations off, of which Pareto's has many.
        for (table, least) in [(normal(), 0.99), (pareto(), 0.5)] {
            let n = table.len() as f64;
            let mean = table.iter().map(|v| f64::from(*v)).sum::<f64>() / n / SCALE as f64;
            let var = table.iter().map(|v| (f64::from(*v) / SCALE as f64).powi(2)).sum::<f64>() / n;
            assert!(table.len() == SIZE && mean.abs() < 0.1 && var > least && var < 1.01, "{mean} {var}");
            assert!(table.is_sorted());
        }
        assert!(normal()[2047].abs() < 8 && paretonormal().len() == SIZE);
    }
}
