"""The one room for machine instructions: vectors, built as LLVM IR behind `numba.extending.intrinsic`.

    tiers      which instructions the code generator may use, and how wide vectors are
    vectors    words of the vector language: loads, broadcasts, products of pairs of words and fours of bytes
    products   tiles of sums of products, the inside of every layer
    windows    strips of a convolution: rows of weights by runs of neighbouring positions
    palettes   packed indices to codes, and products of the rows that come out
    lanes      whole numbers of 32 bits side by side: clamped, shifted, rescaled, looked up in tables
    curves     passes over rows of 16-bit codes: curves through tables, rescaled products, blends
    rescaling  the roundings of kernels/fixedpoint.py as words over vectors of 32 bits
    maps       loops over values of equal place: rescales, sums, products, tables
    epilogue   sums with a multiplier each to codes
    norms      sums of rows, and their codes in floats wherever a float cannot be wrong

Nothing here knows an operator, a rounding or a zero_point. Kernels are written on top, in the language
of their integer formulas.
"""
