"""What time-to-quality figures are made of: seconds of training alone, the first measurement that is good enough, and the draws by
which Trajformer keeps episodes apart. Needs the standard library alone; `check` tests it.
"""

import math
import statistics
import struct

ELSEWHERE = {"seed", "eval_freq", "n_episodes", "buffer_size", "device"}
MASK = (1 << 64) - 1


def training_seconds(rows):
    """Seconds of training at each row of a log, from (seconds, whether something was measured before it was written).

    The clock of a log runs on while losses are measured: an interval that holds a measurement counts as long as the median
    of the others, which hold as many updates.
    """
    lengths = [after - before for (before, _), (after, _) in zip([(0.0, False), *rows], rows)]
    plain = [length for length, (_, measured) in zip(lengths, rows) if not measured]
    if not plain:
        raise ValueError("every row holds a measurement: log more often than you measure")
    usual, total, result = statistics.median(plain), 0.0, []
    for length, (_, measured) in zip(lengths, rows):
        total += usual if measured else length
        result.append(total)
    return result


def lasting(curve):
    """Of a curve of scores what the next one doesn't take back: each with the lower of both, without the last."""
    return [(seconds, min(score, later)) for (seconds, score), (_, later) in zip(curve, curve[1:])]


def seconds_until(curve, reached):
    """The seconds of the first (seconds, quality) with `reached(quality)`; None if there is none."""
    return next((seconds for seconds, quality in curve if reached(quality)), None)


def thresholds(curves, lower, step, count=3):
    """So many qualities that every curve reaches, evenly from the worst start to the worst of what each has at its best.

    `lower` says whether lower is better, as losses are. They are multiples of `step`.
    """
    sign = 1 if lower else -1
    start = max(sign * curve[0][1] for curve in curves)
    end = max(min(sign * quality for _, quality in curve) for curve in curves)
    exact = [start + (end - start) * (place + 1) / count for place in range(count)]
    return [sign * round(math.ceil(value / step - 1e-9) * step, 9) for value in exact]


def table(quality, found, base):
    """Markdown rows from {threshold: {contender: [seconds or None, a seed each]}}: medians over seeds, and how many times those of `base`."""
    rows = [f"| {quality} | who | seconds, a seed each | times {base} |", "|---|---|---|---|"]
    for threshold, contenders in found.items():
        for name, seconds in contenders.items():
            pairs = [(other, own) for other, own in zip(seconds, contenders[base]) if other is not None and own is not None]
            ratio = f"{statistics.median(other / own for other, own in pairs):.2f}" if pairs else "-"
            cells = ", ".join("never" if value is None else f"{value:.1f}" for value in seconds)
            rows.append(f"| {threshold:.3g} | {name} | {cells} | {ratio} |")
    return rows


def corl_settings(text):
    """KEY=VALUE for each number and truth value of a configuration of CORL's, which are flat; what says where and how long isn't among them."""
    result = []
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        value = {"true": "True", "false": "False"}.get(value, value)
        if key not in ELSEWHERE and (value in ("True", "False") or is_number(value)):
            result.append(f"{key}={value}")
    return result


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


class Stream:
    """Trajformer's random numbers of a seed and a name: ChaCha with eight rounds, keyed by both (`models/src/rng.rs`)."""

    def __init__(self, seed, name):
        digest = 0xCBF29CE484222325  # FNV-1a
        for byte in name.encode():
            digest = (digest ^ byte) * 0x100000001B3 & MASK
        self.key, self.block, self.words = struct.unpack("<8I", struct.pack("<QQQQ", seed, digest, 0, 0)), 0, []

    def bits(self):
        """64 of them."""
        if not self.words:
            self.words, self.block = chacha8(self.key, self.block), self.block + 1
        low, high = self.words[:2]
        self.words = self.words[2:]
        return high << 32 | low

    def below(self, bound):
        return self.bits() * bound >> 64

    def draw(self, count, total):
        """So many of the numbers below `total`, without replacement, in order."""
        numbers = list(range(total))
        for place in range(count):
            other = place + self.below(total - place)
            numbers[place], numbers[other] = numbers[other], numbers[place]
        return sorted(numbers[:count])


def chacha8(key, block):
    """A block of the key stream with nonce 0: sixteen words."""
    start = [*struct.unpack("<4I", b"expand 32-byte k"), *key, block & 0xFFFFFFFF, block >> 32, 0, 0]
    words = list(start)
    for _ in range(4):
        for shift in (0, 1, 2, 3):
            quarter(words, shift, 4 + shift, 8 + shift, 12 + shift)
        for shift in (0, 1, 2, 3):
            quarter(words, shift, 4 + (shift + 1) % 4, 8 + (shift + 2) % 4, 12 + (shift + 3) % 4)
    return [(word + first) & 0xFFFFFFFF for word, first in zip(words, start)]


def quarter(words, a, b, c, d):
    for total, added, mixed, bits in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        words[total] = (words[total] + words[added]) & 0xFFFFFFFF
        word = words[mixed] ^ words[total]
        words[mixed] = (word << bits | word >> 32 - bits) & 0xFFFFFFFF


def held_out_episodes(seed, complete, share):
    """Which of so many complete episodes `train.held_out_fraction` keeps apart."""
    return Stream(seed, "held_out").draw(int(complete * share), complete)


def held_out_rows(count, most=2048):
    """Which of so many windows held-out losses are means over."""
    return list(range(count)) if count <= most else Stream(0, "held_out_rows").draw(most, count)
