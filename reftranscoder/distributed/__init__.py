"""Past one machine, on Dask: the results of `reftranscoder` on a cluster, to the bit.

An extra, ``pip install "reftranscoder[distributed]"``, loaded only when it is asked for.  `encode`
and `predict` map a transcoder over a Dask array, lazily; `evaluate` measures one; `fit` trains one
on the workers of a ``distributed.Client``.

How a step is divided
---------------------

The sum of a feature's gradient over the rows of a batch is one chain of fused multiply-adds: cut in
two and added up it would have other bits.  So it is not cut.  Each of P workers owns D / P
features: their rows of W_enc and W_dec, with all that Adam remembers of them.  Rows are read where
they are, and go to all workers, which do for their own features what one process does for all.  The
tasks of a step, by the names that the scheduler's dashboard shows::

    read      rows of the batch, where they lie, one step ahead               each worker
    encode    the K largest features of each row among those owned            each worker
    choose    the K largest of all, by the float64 sums that decide           one worker
    decode    the reconstruction, on from that of the features before         one after the other
    errors    the same of the last features; the gradient by it               the last worker
    gradient  the whole sum of each feature's gradient, and Adam on it        each worker

With ``clip_norm`` Adam waits for the norm (``gradient``, ``norm``, ``adam``).  ``accumulate`` cuts
a batch in parts that follow each other through these tasks: while one is decoded by one worker,
another is by the next.  No sum of a gradient is made by two workers, so that no result depends on
P.

What goes over the network in a step
------------------------------------

For float32, B rows a step, and bytes.  No gradient and no weight moves, and no line has a D in it::

    x         4 B I (P - 1)                each row once to each other worker
    target    4 B O                        at most: to the last worker
    encode    12 B K (P - 1)               at most: candidates, to the one that chooses
    choose    8 B K (P - 1)                at most: the active features
    decode    4 B O (P - 1)                a hop from each worker to the next
    errors    (4 B O + 16 B) (P - 1)

and 4 bytes a row for where rows begin.  So each worker receives about 4 B (I + 2 O + 2 K), whatever
P and D are; the sum grows with P.  The gradients of the touched rows would be min(D, B K) (I + O)
numbers: 20 times as many, for B = 2048, I = O = 768, D = 65,536 and K = 32.  What grows with D
moves seldom: 8 D (I + O) bytes and more, from all workers together, for a line of the log or a
checkpoint.  (``tests/test_distributed.py`` counts the bytes at 1, 2 and 4 workers, and with another
D.)

With t1 the time of a step on one worker, w the bandwidth, l the latency from a task to one that
waits for it and s the scheduler's time for a task, C parts take about::

    t1 / P  +  4 B (I + 2 O + 2 K) / w  +  12 B K P / (C w)
            +  (P + C) (l + 4 B O / (C w))  +  (2 C P + 3 P + 4 C) s

At P = 64, B = 2048, I = O = 768, K = 32, w = 1.25 GB/s, l = 3 ms, s = 0.3 ms and C = 4 these are
t1 / 64 + 16 + 10 + 290 + 216 ms: half a second that no further worker takes away.  A dictionary of
16,384, whose step takes 0.1 s on two cores, belongs on one machine; one of a million (6.8 s, and 13
GB of weights and moments) takes 0.6 s on 64 of these, and fits.  Here l and s are assumed: measure
yours, ``python -m bench.cluster``.

What dies
---------

Steps are told only when every worker has made them.  If a worker is lost, the step is given up, the
workers that there are (a nanny starts another in its place, which is waited for a while) get the
arrays of the last line of the log or checkpoint, and the steps since are made again, to the same
bits.  So ``log_every`` is also what a loss costs at most.
"""

from .evaluation import evaluate
from .fitting import fit
from .mapping import encode, predict

__all__ = ["encode", "evaluate", "fit", "predict"]
