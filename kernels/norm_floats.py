"""The codes of a normalisation from floats, and how near to a tie a float can be trusted.

With v = q*alpha + beta the real quotient, z within half a step of it, A[c] = w[c] M[c] and C[c] = B[c] M[c]
for the real scale M[c] that multiplier and shift stand for, a code is the whole number nearest to

    V = A[c] z + C[c]                                      (1/2 less under `floor`), saturated, plus z_y

unless V is nearer to the middle between two whole numbers than a margin. `machine.norms` computes V in
float32 without rounding z for i8 codes, and in float64 with z rounded for i16 codes, where steps of z matter.
With u the unit 2^-24 or 2^-53 of the floats, T >= |q alpha| + |beta| and L the largest |code - z_y|, the
error is within

    q alpha + beta             4 u T                       factors, product and sum rounded once each
    A z + C, z in error by e   A e + 3 u A (T + 1) + 3 u |C| + u |V|,     e = 1/2 + 4 u T, or 0 with z rounded
    the rounding itself        2^(s-1) for `double` and `half_up_shift` with s < 0, which round twice;
                               2 * 2^-24 |V| for `half_even`, which has float32 products;
                               1 for `truncate`, which is left to integers

of which the sum over the largest A, C and s, with room, is the margin. Beyond 4 L the error of V grows with
it, but far less than its distance from the limit: those codes saturate either way. Whatever is within the
margin is computed in integers, so that floats never decide a bit.
"""

import numpy as np

Margins = tuple[float, float, float, float]


def real_scales(multiplier: np.ndarray, shift: np.ndarray, rounding: str) -> np.ndarray:
    """M of every multiplier and shift, float64, exact."""
    q, s = multiplier.astype(np.int64), shift.astype(np.int64)
    if rounding == "half_even":
        return np.asarray(multiplier.astype(np.int32).view(np.float32), np.float64)
    if rounding == "pot_shift":
        return np.asarray(2.0 ** (s - 1))
    if rounding == "double_m16":
        narrow = np.where(q >= 0x7FFF0000, 0x7FFF, (q + (1 << 15)) >> 16)
        return np.asarray(narrow * 2.0 ** (s - 15))
    return np.asarray(q * 2.0 ** (s - 31))


def real_tail(
    tail: tuple[np.ndarray, ...], rounding: str, limit: int, dtype: type[np.floating]
) -> tuple[np.ndarray, np.ndarray, Margins]:
    """A and C of every channel as floats, and the margin: margin + per_step * (growth * T + step).

    limit: L. dtype: float32 leaves z as it is, float64 rounds it.
    """
    weight, bias, multiplier, shift = tail
    scale = real_scales(multiplier, shift, rounding)
    factors = weight.astype(np.float64) * scale
    offsets = bias.astype(np.float64) * scale - (0.5 if rounding == "floor" else 0.0)
    largest = (float(np.max(np.abs(values), initial=0.0)) for values in (factors, offsets))
    per_step, term = largest
    unit = 2.0**-24 if dtype is np.float32 else 2.0**-53
    step = 8 * unit + (0.5 if dtype is np.float32 else 0.0)
    margin = 8 * unit * (term + limit) + 8 * unit + _own_error(shift, rounding, limit)
    return factors.astype(dtype), offsets.astype(dtype), (margin, 8 * unit, per_step, step)


def _own_error(shift: np.ndarray, rounding: str, limit: int) -> float:
    """How far the rounding itself may be from the nearest whole number."""
    if rounding in ("double", "half_up_shift"):
        s = shift.astype(np.float64)
        return float(np.max(np.where(s < 0, 2.0 ** (s - 1), 0.0), initial=0.0))
    if rounding == "half_even":
        return 2.0**-22 * (limit + 1)
    return 1.0 if rounding == "truncate" else 0.0
