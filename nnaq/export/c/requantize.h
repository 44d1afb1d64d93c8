/* Requantisation: an accumulator times a real scale in fixed point. C99, no libraries.

   A scale is a multiplier q (2^30 <= q < 2^31) and a shift s (left positive), M = q * 2^(s - 31); x has at most
   48 bits. With r = max(-s, 0):

     SINGLE        (x*q + 2^(30-s)) >> (31-s)                        half up, one rounding
     DOUBLE        h = (x*2^max(s,0)*q + 2^30) >> 31, then h / 2^r   half away from zero
     HALF_UP_SHIFT the same h, then (h + 2^(r-1)) >> r, or h if r == 0
     POT_SHIFT     (x + 2^(n-1)) >> n, n = 1 - s
     FLOOR         (x*q) >> (31-s)
     TRUNCATE      sign(x) * ((|x|*q) >> (31-s))
     DOUBLE_M16    (x*Q + 2^(14-s)) >> (15-s), Q = (q + 2^15) >> 16, 0x7FFF if q >= 0x7FFF0000

   >> is the floor of the quotient, for negative numbers too. */

#ifndef REQUANTIZE_H
#define REQUANTIZE_H

#include <stdint.h>

enum rounding { SINGLE, DOUBLE, HALF_UP_SHIFT, POT_SHIFT, FLOOR, TRUNCATE, DOUBLE_M16 };

/* floor(x / 2^n); C leaves >> of a negative number to the compiler */
static inline int64_t shift_right(int64_t x, int n)
{
    return x >= 0 ? x >> n : -((-(x + 1)) >> n) - 1;
}

/* floor((x*q + offset) / 2^n) for n >= 16, within 64 bits */
static inline int64_t scaled(int64_t x, int64_t q, int64_t offset, int n)
{
    int64_t high = shift_right(x, 16), low = x - high * 65536;
    return shift_right(high * q + shift_right(low * q + offset, 16), n - 16);
}

static inline int64_t requantize(int64_t x, int32_t q, int s, enum rounding rounding)
{
    const int64_t one = 1;
    int r = s < 0 ? -s : 0;
    if (rounding == SINGLE)
        return scaled(x, q, one << (30 - s), 31 - s);
    if (rounding == FLOOR)
        return scaled(x, q, 0, 31 - s);
    if (rounding == TRUNCATE)
        return x >= 0 ? scaled(x, q, 0, 31 - s) : -scaled(-x, q, 0, 31 - s);
    if (rounding == POT_SHIFT)
        return s == 1 ? x : shift_right(x + (one << -s), 1 - s);
    if (rounding == DOUBLE_M16) {
        int64_t narrow = q >= 0x7FFF0000 ? 0x7FFF : (q + one * 32768) / 65536;
        return shift_right(x * narrow + (one << (14 - s)), 15 - s);
    }
    int64_t h = scaled(x * (one << (s > 0 ? s : 0)), q, one << 30, 31);
    if (rounding == HALF_UP_SHIFT)
        return r == 0 ? h : shift_right(h + (one << (r - 1)), r);
    int64_t floored = shift_right(h, r), rest = h - floored * (one << r);
    return floored + (rest > (((one << r) - 1) >> 1) + (h < 0));
}

/* clamp to [low - zero_point, high - zero_point], then add zero_point: the addition cannot leave the range */
static inline int32_t saturate(int64_t y, int32_t zero_point, int32_t low, int32_t high)
{
    if (y < (int64_t)low - zero_point)
        return low;
    if (y > (int64_t)high - zero_point)
        return high;
    return (int32_t)(y + zero_point);
}

/* how a result is written down: its codes lie in [low, high]; a fused relu has low = zero_point */
struct codes {
    int32_t zero_point, low, high;
    enum rounding rounding;
};

#endif
