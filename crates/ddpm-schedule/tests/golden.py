"""Prints golden.csv: the published schedules at 60 digits, rounded to 17.

    pip install mpmath && python golden.py > golden.csv

The definitions are written as in the papers, with every difference the Rust code
takes care to avoid; at 60 digits they cost nothing.
"""

from mpmath import cos, exp, log, mp, mpf, nstr, pi, sqrt

mp.dps = 60
T = 1000
TIMES = (1, 10, 100, 500, 1000)


def linear(start, end):
    return [start + (end - start) * t / (T - 1) for t in range(T)]


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


SCHEDULES = {
    "linear": linear(mpf("1e-4"), mpf("0.02")),
    "scaled_linear": scaled_linear(mpf("0.00085"), mpf("0.012")),
    "cosine": cosine(mpf("0.008")),
    "sigmoid": sigmoid(mpf(-3), mpf(3), mpf(1)),
}

print("schedule,t,alpha_bar,posterior_variance,log_snr")
for name, betas in SCHEDULES.items():
    alpha_bar, previous = mpf(1), mpf(1)
    for t, beta in enumerate(betas, 1):
        previous, alpha_bar = alpha_bar, alpha_bar * (1 - beta)
        if t in TIMES:
            posterior_variance = (1 - previous) / (1 - alpha_bar) * beta
            log_snr = log(alpha_bar / (1 - alpha_bar))
            row = (nstr(x, 17) for x in (alpha_bar, posterior_variance, log_snr))
            print(name, t, *row, sep=",")
