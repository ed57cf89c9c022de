"""Progress of long work: a bar in a terminal, a plain line now and then in a notebook."""

import sys
import time

from tqdm import tqdm

SECONDS_A_LINE = 20


def progress(items, title):
    """Iterate over a sized collection, showing how far it is.

    An executed notebook would keep every redraw of a bar as an output. Lines stay readable there
    and in the log of a run.
    """
    if sys.stdout.isatty():
        yield from tqdm(items, desc=title)
        return
    start = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - shown > SECONDS_A_LINE:
            left = (now - start) / done * (len(items) - done)
            print(f"{title}: {done} of {len(items)}, about {left:.0f} s left", flush=True)
            shown = now
        yield item
