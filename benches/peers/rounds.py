"""How many rounds are enough: medians of ratios with their 95 % intervals, and what is said of a machine that is too noisy. Needs the
standard library alone; `check` tests it.

A ratio is one contender's time over another's in the same round, so that what slows a round slows both. Its interval is that of the
median over rounds, from order statistics: it supposes nothing about how times are spread, and needs six rounds. Rounds end as soon as
every interval is narrow enough: looking again after each round makes an interval hold a little less often than that (94 times in 100 at
the worst where it was simulated: up to 30 rounds, 5 % as narrow enough, ratios spread by 1 to 12 %). Rounds are taken to be independent.
"""

import math
import statistics
from typing import NamedTuple

CONFIDENCE = 0.95


class Ratio(NamedTuple):
    """A median over rounds and its interval, which is None of fewer than six rounds."""

    median: float
    interval: tuple | None

    @property
    def width(self):
        """Of the interval, as a share of the median."""
        return math.inf if self.interval is None else (self.interval[1] - self.interval[0]) / self.median


def interval(values):
    """The lowest and the highest value that the median is thought to lie between; None if there are too few values.

    As many values lie below the k-th of n as heads fall in n throws of a coin: k is the largest for which fewer than k heads, and
    fewer than k tails, are together no likelier than 5 %.
    """
    ordered, count = sorted(values), len(values)
    tail, place = 0.0, 0
    while True:
        tail += math.comb(count, place) / 2**count
        if 2 * tail > 1 - CONFIDENCE:
            break
        place += 1
    return None if place == 0 else (ordered[place - 1], ordered[count - place])


def ratio(costs, base):
    """Of costs to those of `base`, round by round."""
    found = [cost / own for cost, own in zip(costs, base)]
    return Ratio(statistics.median(found), interval(found))


def ratios(costs, bases):
    """(contender, base) -> its ratio, of {contender: a cost each round}; no contender is compared with itself."""
    return {(key, base): ratio(costs[key], costs[base]) for base in bases for key in costs if key != base}


def measure(contenders, bases, cost, least, most, width, said=lambda number, key, line: None):
    """Rounds until every interval is narrower than `width`, at least `least` and at most `most`: contender -> what it measured in each.

    Each round has every contender once, in an order that rotates. `cost` is what of a measurement is compared.
    """
    lines = {key: [] for key in contenders}
    for number in range(most):
        keys = list(contenders)
        for key in keys[number % len(keys) :] + keys[: number % len(keys)]:
            lines[key].append(contenders[key].measure())
            said(number, key, lines[key][-1])
        if number + 1 >= least and widest(lines, bases, cost)[0] < width:
            break
    return lines


def widest(lines, bases, cost):
    """The width of the widest interval, and whose it is: (width, (contender, base)). Without peers there is none."""
    costs = {key: [cost(line) for line in found] for key, found in lines.items()}
    every = [(found.width, pair) for pair, found in ratios(costs, bases).items()]
    return max(every, default=(0.0, None))


def verdict(name, lines, bases, cost, width):
    """One sentence: whether the ratios are as sure as was asked for."""
    count = len(next(iter(lines.values())))
    reached, pair = widest(lines, bases, cost)
    if pair is None:
        return f"{name}: nothing to compare with."
    if math.isinf(reached):
        return f"{name}: {count} rounds are too few for 95 % intervals, which need six: how sure these ratios are isn't known."
    if reached < width:
        return f"{name}: after {count} rounds every ratio's 95 % interval is narrower than {100 * width:.3g} %."
    who = f"{pair[0]} to {pair[1]}"
    return (
        f"{name}: THE MACHINE IS TOO NOISY. After {count} rounds the widest 95 % interval ({who}) is still {100 * reached:.1f} % wide,"
        f" more than {100 * width:.3g} %."
    )
