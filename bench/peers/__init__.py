"""Who takes part in `bench.races`: a module a library, imported where that is installed.

``ENTRANTS`` in a module are callables that take the `Work` and return a peer.  A peer has a
``name``; ``calls_blas``, whether threads of a BLAS are left spinning when it returns;
``own(array)``, which gives an array the form that its methods take; a method for each race it takes
part in; and ``results(x, target)``, a mapping for ``rt.audit`` under the loss with ``l1_coeff``.  A
limit makes no results.

``TRAINERS``, for `bench.training`, are callables that take its `Task` and return a trainer: with
``name`` and ``calls_blas``; ``train(begin)``, which makes all steps and calls ``begin(t)`` before
it takes the rows of step t = 1, 2, ...; ``transcoder()``, what it has learnt so far; and
``reconstruct(x)``, what its own code makes of ``x`` by that.

``VARIANTS``, for `bench.variants`, are callables that take the `Work` and return a peer with
``name``, ``calls_blas``, ``is_limit``, and ``variant(name, tc)``, which returns what encodes an
array (B, I) as the transcoder ``tc`` does.
"""
