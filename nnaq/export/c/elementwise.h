/* add, sub, mul, rescale, relu and square, of operands that were spread to one shape.

     add, sub  i8: u = R((a - z_a) << 20), v = R((b - z_b) << 20), y = sat(R(u + sign v) + z_y)
               else: y = sat(sat16(R(a - z_a)) + sign sat16(R(b - z_b)) + z_y)
     mul       y = sat(R((a - z_a)(b - z_b)) + z_y)
     rescale   y = sat(R(x - z_x) + z_y)
     relu      y = max(x, z)
     square    y = (x - z_x)^2 */

#ifndef ELEMENTWISE_H
#define ELEMENTWISE_H

#include "requantize.h"

struct scale {
    int32_t q;
    int s;
};

static inline void add_8(const int32_t *a, const int32_t *b, int count, int sign, int32_t z_a, int32_t z_b,
                         const struct scale scales[3], struct codes y, int32_t *out)
{
    for (int i = 0; i < count; i++) {
        int64_t u = requantize((int64_t)(a[i] - z_a) * 1048576, scales[0].q, scales[0].s, y.rounding);
        int64_t v = requantize((int64_t)(b[i] - z_b) * 1048576, scales[1].q, scales[1].s, y.rounding);
        int64_t sum = requantize(u + sign * v, scales[2].q, scales[2].s, y.rounding);
        out[i] = saturate(sum, y.zero_point, y.low, y.high);
    }
}

static inline void add_16(const int32_t *a, const int32_t *b, int count, int sign, int32_t z_a, int32_t z_b,
                          const struct scale scales[2], struct codes y, int32_t *out)
{
    for (int i = 0; i < count; i++) {
        int64_t u = requantize((int64_t)a[i] - z_a, scales[0].q, scales[0].s, y.rounding);
        int64_t v = requantize((int64_t)b[i] - z_b, scales[1].q, scales[1].s, y.rounding);
        int64_t sum = (int64_t)saturate(u, 0, -32768, 32767) + sign * (int64_t)saturate(v, 0, -32768, 32767);
        out[i] = saturate(sum, y.zero_point, y.low, y.high);
    }
}

static inline void mul(const int32_t *a, const int32_t *b, int count, int32_t z_a, int32_t z_b, struct scale m,
                       struct codes y, int32_t *out)
{
    for (int i = 0; i < count; i++) {
        int64_t product = requantize((int64_t)(a[i] - z_a) * (b[i] - z_b), m.q, m.s, y.rounding);
        out[i] = saturate(product, y.zero_point, y.low, y.high);
    }
}

static inline void rescale(const int32_t *x, int count, int32_t z_x, struct scale m, struct codes y, int32_t *out)
{
    for (int i = 0; i < count; i++)
        out[i] = saturate(requantize((int64_t)x[i] - z_x, m.q, m.s, y.rounding), y.zero_point, y.low, y.high);
}

static inline void relu(const int32_t *x, int count, int32_t z, int32_t *out)
{
    for (int i = 0; i < count; i++)
        out[i] = x[i] > z ? x[i] : z;
}

static inline void square(const int32_t *x, int count, int32_t z_x, int32_t *out)
{
    for (int i = 0; i < count; i++)
        out[i] = (x[i] - z_x) * (x[i] - z_x);
}

#endif
