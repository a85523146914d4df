//! The integrals of interpolating polynomials as weights, which all multistep methods use.

/// The w with Σ_k w_k·p(`nodes[k]`) = ∫p for every polynomial p of a degree below the number of
/// nodes, where `moment(i)` = ∫τⁱ.
///
/// The nodes are all different. Σ_k w_k·r_kⁱ = m_i is solved by Lagrange's basis: w_k is the
/// integral of ℓ_k(τ) = Π_{j≠k} (τ − r_j)/(r_k − r_j), expanded in powers of τ.
pub(super) fn weights(nodes: &[f64], moment: impl Fn(usize) -> f64) -> Vec<f64> {
    let moments: Vec<f64> = (0..nodes.len()).map(moment).collect();
    let weight = |(k, r_k): (usize, &f64)| {
        // The coefficients of ℓ_k, that of τ⁰ first.
        let mut basis = vec![1.0];
        let others = nodes.iter().enumerate().filter(|&(j, _)| j != k);
        for (_, r_j) in others {
            let scale = (r_k - r_j).recip();
            let mut product = vec![0.0; basis.len() + 1];
            for (i, c) in basis.iter().enumerate() {
                product[i] -= c * r_j * scale;
                product[i + 1] += c * scale;
            }
            basis = product;
        }
        basis.iter().zip(&moments).map(|(c, m)| c * m).sum()
    };
    nodes.iter().enumerate().map(weight).collect()
}

/// φ_k(z) = Σ_n zⁿ/(n+k)! for k ≥ 1: φ₁ = (eᶻ − 1)/z, φ_{k+1} = (φ_k − 1/k!)/z
/// (Hochbruck & Ostermann 2010, eq. 2.10).
pub(super) fn phi(k: u32, z: f64) -> f64 {
    let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
    if z.abs() < 1.0 {
        // The recurrence cancels for small z. zⁿ/n! at n = 20 is below rounding.
        let mut term = factorial(k).recip();
        let mut sum = term;
        for n in 1..20 {
            term *= z / f64::from(n + k);
            sum += term;
        }
        sum
    } else {
        (1..k).fold(z.exp_m1() / z, |phi, k| (phi - factorial(k).recip()) / z)
    }
}
