"""Makes many requests of every kind that ordinary programs make. Some of them fail, and some are still open at the
end. None of them tries to deceive the boundary, so the record must have no fault.

    main.py SEED COUNT SIZE [ONLY]

COUNT requests are chosen and ordered by SEED. Bodies that a mediator may scan have up to SIZE bytes. ONLY is the only
kind to make. The results of each kind are printed as JSON.
"""

import collections
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import plain  # noqa: F401
import others  # noqa: F401
from wire import COUNT, KINDS, LEFT, ONLY, SEED, chosen


def made(number, kind):
    chosen.random = random.Random(SEED * 1_000_003 + number)
    try:
        return kind.__name__, kind()
    except EOFError:
        return kind.__name__, "cut"
    except OSError as error:
        return kind.__name__, type(error).__name__


def main():
    kinds = [kind for kind in KINDS if ONLY in (None, kind.__name__)]
    order = [kinds[number % len(kinds)] for number in range(COUNT)] if kinds else []
    random.Random(SEED).shuffle(order)
    results = collections.defaultdict(collections.Counter)
    with ThreadPoolExecutor(30) as pool:
        for name, result in pool.map(made, range(len(order)), order):
            results[name][result] += 1
    left = [kind for kind in LEFT if ONLY in (None, kind.__name__)]
    held = []
    for number, kind in enumerate(left * (2 if ONLY is None else COUNT)):
        chosen.random = random.Random(SEED * 7919 + number)
        held.append(kind())
        results[kind.__name__]["left"] += 1
    # The pause gives the sent data time to arrive.
    time.sleep(0.3)
    print(json.dumps(results), flush=True)
    os._exit(0)


main()
