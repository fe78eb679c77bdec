"""Who takes part in `bench.races`: a module a library, imported where that is installed.

``ENTRANTS`` in a module are callables that take the `Work` and return a peer.  A peer has a
``name``; ``calls_blas``, whether threads of a BLAS are left spinning when it returns;
``own(array)``, which gives an array the form that its methods take; a method for each race it takes
part in; and ``results(x, target)``, a mapping for ``rt.audit`` under the loss with ``l1_coeff``.  A
limit makes no results.
"""
