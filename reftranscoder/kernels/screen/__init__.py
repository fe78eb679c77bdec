"""The screen: which features of a row may be among the K largest, found from 8-bit or float32
products, and looked at closer in 16 bits, so that only these are computed in float64.  In reading
order::

    quantised.py       8-bit and 16-bit numbers, and the theorem by which a feature is out
    screening.py       every feature whose bound is not below the row's threshold is a candidate
    rescoring.py       candidates computed as the definition says, and selected from
    packed_int8.py     weights and inputs as the 8-bit products want them
    packed_float32.py  the same where there are none, or too many candidates are left
    layout.py          how both lie in memory, and the candidates
    tile.py            the innermost loop of either
    expectations.py    what a call may expect of a batch, from those before it
    rounding.py        numbers rounded to 8 bits, four bytes at a time
    sixteen_bits.py    numbers rounded to 16 bits, and products of them
    cpu_target.py      what the processor that is compiled for can do
    workspace.py       memory that one call after the other works in

``kernels/screened_encoder.py`` puts them together.
"""
