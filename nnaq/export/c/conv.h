/* conv1d, conv2d: x[N,C,H,W], w[O,C/groups,KH,KW] -> y[N,O,P,Q]; a window that leaves the image reads z_x there.
   conv1d is H = KH = 1. */

#ifndef CONV_H
#define CONV_H

#include "requantize.h"

struct window {
    int batch, channels, height, width, outputs, kernel_h, kernel_w, rows, columns;
    int stride_h, stride_w, dilation_h, dilation_w, top, left, groups;
};

static inline void conv(const int32_t *x, const int32_t *w, const int64_t *bias, const int32_t *q, const int32_t *s,
                        struct window g, int32_t z_x, int32_t z_w, struct codes y, int32_t *out)
{
    int inner = g.channels / g.groups, share = g.outputs / g.groups;
    for (int n = 0; n < g.batch; n++)
        for (int o = 0; o < g.outputs; o++)
            for (int p = 0; p < g.rows; p++)
                for (int r = 0; r < g.columns; r++) {
                    int64_t sum = bias[o];
                    for (int c = 0; c < inner; c++)
                        for (int i = 0; i < g.kernel_h; i++)
                            for (int j = 0; j < g.kernel_w; j++) {
                                int a = p * g.stride_h + i * g.dilation_h - g.top;
                                int b = r * g.stride_w + j * g.dilation_w - g.left;
                                int plane = n * g.channels + (o / share) * inner + c;
                                if (a < 0 || a >= g.height || b < 0 || b >= g.width)
                                    continue;
                                int32_t tap = w[((o * inner + c) * g.kernel_h + i) * g.kernel_w + j] - z_w;
                                sum += (int64_t)(x[(plane * g.height + a) * g.width + b] - z_x) * tap;
                            }
                    out[((n * g.outputs + o) * g.rows + p) * g.columns + r] =
                        saturate(requantize(sum, q[o], s[o], y.rounding), y.zero_point, y.low, y.high);
                }
}

#endif
