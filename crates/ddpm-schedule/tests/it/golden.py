"""Writes golden.tsv and decoder.tsv beside it: numbers at 60 digits, rounded to 17.

    pip install mpmath && python golden.py

The definitions are written as in the papers, with every difference the Rust code
takes care to avoid; at 60 digits they cost nothing.
"""

from pathlib import Path

from mpmath import cos, exp, inf, linspace, log, mp, mpf, ncdf, nstr, pi, sqrt

mp.dps = 60
T = 1000
TIMES = (1, 2, 10, 100, 500, 900, 999, 1000)


def linear(start, end):
    return linspace(start, end, T)


def scaled_linear(start, end):
    return [root**2 for root in linear(sqrt(start), sqrt(end))]


def from_alpha_bar(alpha_bar):
    return [min(1 - alpha_bar(t) / alpha_bar(t - 1), mpf("0.999")) for t in range(1, T + 1)]


def cosine(s):
    return from_alpha_bar(lambda t: cos((mpf(t) / T + s) / (1 + s) * pi / 2) ** 2)


def sigmoid(start, end, tau):
    logistic = lambda x: 1 / (1 + exp(-x))
    x = lambda t: (start + (end - start) * mpf(t) / T) / tau
    return from_alpha_bar(lambda t: logistic(x(T)) - logistic(x(t)))


def variance_preserving(betas):
    """(a², b²) of t = 0, 1, …, T."""
    levels = [(mpf(1), mpf(0))]
    for beta in betas:
        alpha_bar = levels[-1][0] * (1 - beta)
        levels.append((alpha_bar, 1 - alpha_bar))
    return levels


def random_walk(sigma):
    return [(mpf(1), t * sigma**2) for t in range(T + 1)]


def zero_terminal_snr(levels):
    a = [sqrt(alpha_bar) for alpha_bar, _ in levels]
    scaled = [((a_t - a[T]) * a[1] / (a[1] - a[T])) ** 2 for a_t in a[1:]]
    return levels[:1] + [(alpha_bar, 1 - alpha_bar) for alpha_bar in scaled]


DDPM = variance_preserving(linear(mpf("1e-4"), mpf("0.02")))
SCALED = variance_preserving(scaled_linear(mpf("0.00085"), mpf("0.012")))
SCHEDULES = {
    "linear": DDPM,
    "scaled_linear": SCALED,
    "cosine": variance_preserving(cosine(mpf("0.008"))),
    "sigmoid": variance_preserving(sigmoid(mpf(-3), mpf(3), mpf(1))),
    "random_walk": random_walk(mpf("0.3")),
    "linear_zero_snr": zero_terminal_snr(DDPM),
    "scaled_linear_zero_snr": zero_terminal_snr(SCALED),
}


def schedule_rows():
    yield "schedule", "t", "alpha_bar", "beta", "posterior_variance", "log_snr"
    for name, levels in SCHEDULES.items():
        for t in TIMES:
            (a2_s, b2_s), (a2, b2) = levels[t - 1 : t + 1]
            beta = b2 - a2 / a2_s * b2_s
            posterior_variance = b2_s / b2 * beta
            log_snr = log(a2 / b2) if a2 else -inf
            yield name, t, *(nstr(x, 17) for x in (a2, beta, posterior_variance, log_snr))


def decoder_rows():
    """Ho et al. 2020, eq. 13, for doubles as they are: no decimal is rounded twice."""
    yield "pixel", "mean", "log_variance", "nll"
    for pixel in (0, 1, 100, 127, 128, 254, 255):
        for mean in (-1.0, -0.25, 0.0, 0.0078125, 0.99, 1.5):
            for log_variance in (-20.0, -12.0, -9.2, -4.0, 0.0, 6.0):
                sigma = exp(mpf(log_variance) / 2)
                edge = lambda n: (mpf(n) / 255 - mean) / sigma
                lo = -inf if pixel == 0 else edge(2 * pixel - 256)
                hi = inf if pixel == 255 else edge(2 * pixel - 254)
                # Of the two tails the one where no 1 hides the digits.
                if lo > 0:
                    lo, hi = -hi, -lo
                nll = -log(ncdf(hi) - (ncdf(lo) if lo > -inf else 0))
                yield pixel, mean, log_variance, nstr(nll, 17)


for name, rows in (("golden", schedule_rows()), ("decoder", decoder_rows())):
    text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    Path(__file__).with_name(f"{name}.tsv").write_text(text)
