"""The screen: which features of a row may be among the K largest, found from products in 8 or 16
bits or in float32, and looked at closer in 16, so that only these are computed in float64.
In reading order::

    quantised.py       whole weights and inputs, and the theorem by which a feature is out
    search.py          from packed weights and inputs to what is kept, in one call
    screening.py       every feature whose bound is not below the row's threshold is a candidate
    rescoring.py       candidates computed as the definition says, and selected from
    packed_whole.py    weights and inputs as the products in 8 or 16 bits want them
    packed_float32.py  the same where there are none, or too many candidates are left
    layout.py          how both lie in memory, and the candidates
    tile.py            the innermost loop of either
    products.py        its products, by the instructions that there are
    expectations.py    what a call may expect of a batch, from those before it
    rounding.py        numbers rounded to whole ones, four bytes at a time
    sixteen_bits.py    products of rows of 16 bits
    cpu_target.py      what the processor that is compiled for can do: the kinds of panels
    workspace.py       memory that one call after the other works in

``kernels/screened_encoder.py`` puts them together.  What the compiler makes of a tile and of its
products is written with ``emission.py``.
"""
