/* A function of one variable by its table.

     i8   y = table[q + 128], 256 entries
     i16  y = saturate(requantize(u) + z_y), u of 23 bits: with 513 entries i = (q >> 7) + 256 and
          u = (table[i] << 7) + (table[i + 1] - table[i]) * (q & 127), with 65536 u = table[q + 32768] << 7 */

#ifndef TABLE_H
#define TABLE_H

#include "requantize.h"

static inline int64_t lookup(int32_t q, const int32_t *table, int entries)
{
    if (entries == 65536)
        return (int64_t)table[q + 32768] * 128;
    int32_t i = (int32_t)shift_right(q, 7) + 256, part = q - (i - 256) * 128;
    return (int64_t)table[i] * 128 + (int64_t)(table[i + 1] - table[i]) * part;
}

static inline void table_8(const int32_t *x, const int32_t *table, int count, int32_t *out)
{
    for (int i = 0; i < count; i++)
        out[i] = table[x[i] + 128];
}

static inline void table_16(const int32_t *x, const int32_t *table, int entries, int count, int32_t q, int s,
                            struct codes y, int32_t *out)
{
    for (int i = 0; i < count; i++) {
        int64_t value = requantize(lookup(x[i], table, entries), q, s, y.rounding);
        out[i] = saturate(value, y.zero_point, y.low, y.high);
    }
}

#endif
