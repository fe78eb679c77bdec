"""What the kernels stand on::

    jit.py                the one policy by which every kernel is compiled and kept
    linked.py             what a kernel is made of is linked into it, and nothing else is made of it
    vector.py             eight float64 lanes as one value: the order of every long sum
    prefetch.py           rows asked for before they are needed
    sparse_loops.py       the three loops that every product with a sparse matrix is one of
    quickselect.py        the k-th largest of some numbers
    kernel_arrays.py      the form in which arrays enter a kernel
    work_division.py      blocks of rows that fit in cache, and equal parts for the threads
    threads_and_forks.py  any thread may call, and a fork goes on working

Nothing of it has a twin.
"""
