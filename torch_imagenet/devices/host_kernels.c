/* Batch normalisation in training, with what follows it, on maps [images, positions, channels] of float32 or bfloat16.

   Maps are gone through in blocks of `rows` positions of an image. Sums are float32 over a block and double over blocks,
   so they do not depend on the number of threads. A NaN stays one. host_kernels.py calls this and has the formulas. */

#ifndef ELEMENT

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline)) /* so that a mode is a constant in its loops */

typedef struct {
    long images, positions, channels, rows;
    int threads;
} Shape;

typedef struct {
    long image, first, last; /* positions, counted through all images */
} Block;

enum { PLAIN, RELU, SHORTCUT };

static long blocks_of(const Shape *shape) { return (shape->positions + shape->rows - 1) / shape->rows; }

static Block block_of(const Shape *shape, long number) {
    long blocks = blocks_of(shape), image = number / blocks, first = number % blocks * shape->rows;
    long last = first + shape->rows < shape->positions ? first + shape->rows : shape->positions;
    return (Block){image, image * shape->positions + first, image * shape->positions + last};
}

/* Over the blocks of every image: partial [images, blocks, 2, channels] to sums [2, images, channels]. */
static void add_blocks(const Shape *shape, const float *partial, float *sums) {
    long blocks = blocks_of(shape), channels = shape->channels;
#pragma omp parallel for num_threads(shape->threads) schedule(static)
    for (long row = 0; row < 2 * shape->images; row++) {
        const float *part = partial + (row % shape->images * blocks * 2 + row / shape->images) * channels;
        for (long c = 0; c < channels; c++) {
            double sum = 0;
            for (long block = 0; block < blocks; block++)
                sum += part[block * 2 * channels + c];
            sums[row * channels + c] = (float)sum;
        }
    }
}

/* sums [2, images, channels] of x - origin and of its square, with the origin in mean, to the batch's mean and
   inv = 1 / sqrt(variance + epsilon) and to a = weight inv and b = bias - a mean; sums[0] becomes that of x - mean. The
   running statistics go to these by `momentum`, with the unbiased variance. */
void statistics(Shape shape, float *sums, const float *weight, const float *bias, float *running_mean,
                float *running_variance, double momentum, double epsilon, float *mean, float *inv, float *a, float *b) {
    double count = (double)shape.images * shape.positions;
    for (long c = 0; c < shape.channels; c++) {
        double sum = 0, square = 0;
        for (long at = c; at < shape.images * shape.channels; at += shape.channels) {
            sum += sums[at];
            square += sums[at + shape.images * shape.channels];
        }
        double away = sum / count, variance = square / count - away * away;
        variance = variance < 0 ? 0 : variance;
        for (long at = c; at < shape.images * shape.channels; at += shape.channels)
            sums[at] = (float)(sums[at] - shape.positions * away);
        double centre = mean[c] + away, scale = 1 / sqrt(variance + epsilon);
        running_mean[c] += (float)(momentum * (centre - running_mean[c]));
        running_variance[c] += (float)(momentum * (variance * count / (count - 1) - running_variance[c]));
        mean[c] = (float)centre;
        inv[c] = (float)scale;
        a[c] = (float)(weight[c] * scale);
        b[c] = (float)(bias[c] - weight[c] * scale * centre);
    }
}

/* `gradient_sums` to the gradients of weight and bias and to p, q and r of `gradient`. Behind a gate the gradient of
   a x + b is scale g + spread, both [images, channels], and `away` has the sums of x - mean of every image. */
void coefficients(Shape shape, const float *sums, const float *inv, const float *a, const float *scale,
                  const float *spread, const float *away, float *dweight, float *dbias, float *p, float *q, float *r) {
    long size = shape.images * shape.channels;
    double count = (double)shape.images * shape.positions;
    for (long c = 0; c < shape.channels; c++) {
        double sum = 0, product = 0;
        for (long at = c; at < size; at += shape.channels) {
            sum += scale == NULL ? sums[at] : (double)scale[at] * sums[at] + shape.positions * (double)spread[at];
            product += scale == NULL ? sums[at + size] : (double)scale[at] * sums[at + size] + (double)spread[at] * away[at];
        }
        dweight[c] = (float)(product * inv[c]);
        dbias[c] = (float)sum;
        r[c] = (float)(-a[c] * (double)inv[c] * inv[c] * product / count);
        for (long at = c; at < (scale == NULL ? shape.channels : size); at += shape.channels) {
            p[at] = scale == NULL ? a[c] : a[c] * scale[at];
            q[at] = (float)(a[c] * ((scale == NULL ? 0 : spread[at]) - sum / count));
        }
    }
}

INLINE float relu(float value) { return value < 0 ? 0 : value; }
INLINE float from_float32(float value) { return value; }
INLINE float to_float32(float value) { return value; }

INLINE float from_bfloat16(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

INLINE uint16_t to_bfloat16(float value) { /* to the nearest, ties to even */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return value != value ? 0x7fc0 : (uint16_t)nearest;
}

#define ELEMENT float
#define NAME(name) name##_float32
#define FROM from_float32
#define TO to_float32
#include "host_kernels.c"
#undef ELEMENT
#undef NAME
#undef FROM
#undef TO
#define ELEMENT uint16_t
#define NAME(name) name##_bfloat16
#define FROM from_bfloat16
#define TO to_bfloat16
#include "host_kernels.c"

#else

/* Of every image and channel: the sums of x - origin and of its square. */
void NAME(sums)(Shape shape, const ELEMENT *restrict x, const float *restrict origin, float *partial, float *sums) {
    long channels = shape.channels;
#pragma omp parallel for num_threads(shape.threads) schedule(static)
    for (long number = 0; number < shape.images * blocks_of(&shape); number++) {
        Block block = block_of(&shape, number);
        float *restrict sum = partial + number * 2 * channels, *restrict square = sum + channels;
        memset(sum, 0, 2 * channels * sizeof(float));
        for (long row = block.first; row < block.last; row++) {
            const ELEMENT *restrict in = x + row * channels;
#pragma omp simd
            for (long c = 0; c < channels; c++) {
                float away = FROM(in[c]) - origin[c];
                sum[c] += away;
                square[c] += away * away;
            }
        }
    }
    add_blocks(&shape, partial, sums);
}

INLINE void NAME(apply_)(Shape shape, const ELEMENT *restrict x, const float *a, const float *b, int mode,
                         const ELEMENT *restrict shortcut, ELEMENT *restrict y) {
    long channels = shape.channels;
#pragma omp parallel for num_threads(shape.threads) schedule(static)
    for (long number = 0; number < shape.images * blocks_of(&shape); number++) {
        Block block = block_of(&shape, number);
        const float *restrict factor = a + (mode == SHORTCUT ? block.image * channels : 0);
        const float *restrict offset = b + (mode == SHORTCUT ? block.image * channels : 0);
        for (long at = block.first * channels; at < block.last * channels; at += channels)
#pragma omp simd
            for (long c = 0; c < channels; c++) {
                float value = factor[c] * FROM(x[at + c]) + offset[c];
                if (mode == SHORTCUT)
                    value += FROM(shortcut[at + c]);
                y[at + c] = TO(mode == PLAIN ? value : relu(value));
            }
    }
}

/* y = a x + b with a and b [channels], or relu of it; with a shortcut relu(a x + b + shortcut), a and b of each image. */
void NAME(apply)(Shape shape, const ELEMENT *x, const float *a, const float *b, int mode, const ELEMENT *shortcut,
                 ELEMENT *y) {
    if (mode == SHORTCUT)
        NAME(apply_)(shape, x, a, b, SHORTCUT, shortcut, y);
    else if (mode == RELU)
        NAME(apply_)(shape, x, a, b, RELU, shortcut, y);
    else
        NAME(apply_)(shape, x, a, b, PLAIN, shortcut, y);
}

INLINE void NAME(gradient_sums_)(Shape shape, const ELEMENT *restrict dy, const ELEMENT *restrict x, const float *mean,
                                 const float *a, const float *b, int mode, const ELEMENT *restrict y,
                                 ELEMENT *restrict kept, float *partial) {
    long channels = shape.channels;
#pragma omp parallel for num_threads(shape.threads) schedule(static)
    for (long number = 0; number < shape.images * blocks_of(&shape); number++) {
        Block block = block_of(&shape, number);
        float *restrict sum = partial + number * 2 * channels, *restrict product = sum + channels;
        memset(sum, 0, 2 * channels * sizeof(float));
        for (long at = block.first * channels; at < block.last * channels; at += channels)
#pragma omp simd
            for (long c = 0; c < channels; c++) {
                float in = FROM(x[at + c]), g = FROM(dy[at + c]);
                if (mode == RELU)
                    g = a[c] * in + b[c] <= 0 ? 0 : g;
                if (mode == SHORTCUT) {
                    g = FROM(y[at + c]) <= 0 ? 0 : g;
                    kept[at + c] = TO(g);
                }
                sum[c] += g;
                product[c] += g * (in - mean[c]);
            }
    }
}

/* Of every image and channel: the sums of g and of g (x - mean). g is dy, behind a ReLU 0 where that gave 0: where
   a x + b is not above 0, or with a shortcut where y is not, and then g is kept. */
void NAME(gradient_sums)(Shape shape, const ELEMENT *dy, const ELEMENT *x, const float *mean, const float *a,
                         const float *b, int mode, const ELEMENT *y, ELEMENT *kept, float *partial, float *sums) {
    if (mode == SHORTCUT)
        NAME(gradient_sums_)(shape, dy, x, mean, a, b, SHORTCUT, y, kept, partial);
    else if (mode == RELU)
        NAME(gradient_sums_)(shape, dy, x, mean, a, b, RELU, y, kept, partial);
    else
        NAME(gradient_sums_)(shape, dy, x, mean, a, b, PLAIN, y, kept, partial);
    add_blocks(&shape, partial, sums);
}

INLINE void NAME(gradient_)(Shape shape, const ELEMENT *restrict g, const ELEMENT *restrict x, const float *mean,
                            const float *a, const float *b, int mode, const float *p, const float *q, const float *r,
                            ELEMENT *restrict dx) {
    long channels = shape.channels;
#pragma omp parallel for num_threads(shape.threads) schedule(static)
    for (long number = 0; number < shape.images * blocks_of(&shape); number++) {
        Block block = block_of(&shape, number);
        const float *restrict factor = p + (mode == SHORTCUT ? block.image * channels : 0);
        const float *restrict offset = q + (mode == SHORTCUT ? block.image * channels : 0);
        for (long at = block.first * channels; at < block.last * channels; at += channels)
#pragma omp simd
            for (long c = 0; c < channels; c++) {
                float in = FROM(x[at + c]), behind = FROM(g[at + c]);
                if (mode == RELU)
                    behind = a[c] * in + b[c] <= 0 ? 0 : behind;
                dx[at + c] = TO(factor[c] * behind + offset[c] + r[c] * (in - mean[c]));
            }
    }
}

/* dx = p g + q + r (x - mean), p, q and r [channels], and p and q of each image behind a shortcut. With RELU, g is what
   `gradient_sums` makes of it; behind a shortcut it is what that has kept. */
void NAME(gradient)(Shape shape, const ELEMENT *g, const ELEMENT *x, const float *mean, const float *a, const float *b,
                    int mode, const float *p, const float *q, const float *r, ELEMENT *dx) {
    if (mode == SHORTCUT)
        NAME(gradient_)(shape, g, x, mean, a, b, SHORTCUT, p, q, r, dx);
    else if (mode == RELU)
        NAME(gradient_)(shape, g, x, mean, a, b, RELU, p, q, r, dx);
    else
        NAME(gradient_)(shape, g, x, mean, a, b, PLAIN, p, q, r, dx);
}

#endif
