/* lstm without projection, normalisation and coupled gates, gates in the order i, f, g, o. Per frame and unit:

     A = sat16(requantize(bias + sum (w_x - z_wx)(x - z_x)))     gates in Q3.12
     R = sat16(requantize(sum (w_h - z_wh)(h - z_h)))
     gate = sat16(requantize(lookup(sat16(A + R)), 2^-7))        Q0.15
     c = sat16(sat16(requantize(f*c, 2^-15)) + sat16(requantize(i*g, 2^(n-30))))
     h = saturate(requantize(tanh(c) * o) + z_h)

   tanh reads c in Q3.12, sat16(c * 2^(12-n)), or by the code of c itself where there is a table for it. What comes
   behind the accumulators rounds by DOUBLE where these round by DOUBLE_M16. */

#ifndef LSTM_H
#define LSTM_H

#include "table.h"

struct rows {
    const int32_t *w, *q, *s;
    int32_t z_w;
};

struct lstm {
    int frames, batch, depth, units, entries, fraction;
    int32_t z_x;
    struct rows input, recurrent;
    const int64_t *bias;
    const int32_t *sigmoid, *tanh, *cell; /* cell: 65536 entries, or 0 */
    int32_t hidden_q;
    int hidden_s;
    struct codes h;
};

static inline int32_t sat16(int64_t x)
{
    return saturate(x, 0, -32768, 32767);
}

/* sat16(requantize(x, 2^exponent)) */
static inline int32_t by_power(int64_t x, int exponent, enum rounding rounding)
{
    return sat16(requantize(x, 1073741824, exponent + 1, rounding));
}

static inline int32_t row_code(struct rows r, const int64_t *bias, int j, const int32_t *x, int32_t z, int depth,
                               enum rounding rounding)
{
    int64_t sum = bias ? bias[j] : 0;
    for (int k = 0; k < depth; k++)
        sum += (int64_t)(r.w[j * depth + k] - r.z_w) * (x[k] - z);
    return sat16(requantize(sum, r.q[j], r.s[j], rounding));
}

static inline int32_t curve(int32_t a, const int32_t *table, int entries, enum rounding rounding)
{
    return by_power(lookup(a, table, entries), -7, rounding);
}

static inline int32_t tanh_of_cell(const struct lstm *l, int32_t c, enum rounding after)
{
    if (l->cell)
        return curve(c, l->cell, 65536, after);
    if (l->fraction > 12)
        return curve(by_power(c, 12 - l->fraction, after), l->tanh, l->entries, after);
    return curve(sat16((int64_t)c * (1 << (12 - l->fraction))), l->tanh, l->entries, after);
}

/* h and c are the states: before the first frame on the way in, after the last on the way out.
   gates: room for 4 * units numbers. */
static inline void lstm(const struct lstm *l, const int32_t *x, int32_t *h, int32_t *c, int32_t *gates, int32_t *out)
{
    enum rounding first = l->h.rounding, after = first == DOUBLE_M16 ? DOUBLE : first;
    int units = l->units;
    for (int t = 0; t < l->frames; t++)
        for (int b = 0; b < l->batch; b++) {
            const int32_t *frame = x + (t * l->batch + b) * l->depth;
            int32_t *hidden = h + b * units, *cell = c + b * units;
            for (int j = 0; j < 4 * units; j++) {
                int32_t driven = row_code(l->input, l->bias, j, frame, l->z_x, l->depth, first);
                int32_t carried = row_code(l->recurrent, 0, j, hidden, l->h.zero_point, units, first);
                int32_t a = sat16((int64_t)driven + carried);
                gates[j] = curve(a, j / units == 2 ? l->tanh : l->sigmoid, l->entries, after);
            }
            for (int u = 0; u < units; u++) {
                int64_t i = gates[u], f = gates[units + u], g = gates[2 * units + u], o = gates[3 * units + u];
                int64_t kept = by_power(f * cell[u], -15, after), fresh = by_power(i * g, l->fraction - 30, after);
                cell[u] = sat16(kept + fresh);
                int64_t value = requantize(tanh_of_cell(l, cell[u], after) * o, l->hidden_q, l->hidden_s, after);
                hidden[u] = saturate(value, l->h.zero_point, l->h.low, l->h.high);
                out[(t * l->batch + b) * units + u] = hidden[u];
            }
        }
}

#endif
