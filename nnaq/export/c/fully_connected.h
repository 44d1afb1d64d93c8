/* fully_connected: y[m,o] = saturate(requantize(bias[o] + sum_k (x[m,k] - z_x)(w[o,k] - z_w)) + z_y) */

#ifndef FULLY_CONNECTED_H
#define FULLY_CONNECTED_H

#include "requantize.h"

static inline void fully_connected(const int32_t *x, const int32_t *w, const int64_t *bias, const int32_t *q,
                                   const int32_t *s, int rows, int depth, int units, int32_t z_x, int32_t z_w,
                                   struct codes y, int32_t *out)
{
    for (int m = 0; m < rows; m++)
        for (int o = 0; o < units; o++) {
            int64_t sum = bias[o];
            for (int k = 0; k < depth; k++)
                sum += (int64_t)(x[m * depth + k] - z_x) * (w[o * depth + k] - z_w);
            out[m * units + o] = saturate(requantize(sum, q[o], s[o], y.rounding), y.zero_point, y.low, y.high);
        }
}

#endif
