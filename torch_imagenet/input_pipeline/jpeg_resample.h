/* Pillow's Image.resize(size, BILINEAR, box) in its own arithmetic: src/libImaging/Resample.c, weights of 22 bits, each
   of the two passes rounded to 8 bits. */
#include <math.h>

enum { BITS = 22, HALF = 1 << (BITS - 1), ROWS = 4, SIDE = 4 * ROWS, BLOCK = 64 };

typedef int32_t sums __attribute__((vector_size(4 * SIDE), aligned(4), may_alias));

/* The results from `start` on of `length` pixels from `begin` on that become `across`. Each is the sum of some pixels
   from a first one on, by weights, at most `step`; `end` is behind the last pixel of all. */
struct axis {
  int in, begin, length, across, start, count, step, end;
  int *first, *pixels, *weights;
};

/* precompute_coeffs and normalize_coeffs_8bpc of Pillow, for its bilinear filter. */
static void fill(struct job *job, struct axis *axis, int start, int count) {
  axis->start = start;
  axis->count = count;
  double scale = (double)axis->length / axis->across, support = scale < 1 ? 1 : scale, inverse = 1.0 / support;
  axis->step = (int)ceil(support) * 2 + 1;
  axis->first = take(job, axis->count * sizeof(int));
  axis->pixels = take(job, axis->count * sizeof(int));
  axis->weights = take(job, (size_t)axis->count * axis->step * sizeof(int));
  double *found = take(job, axis->step * sizeof(double));
  for (int i = 0; i < axis->count; i++) {
    double center = axis->begin + (axis->start + i + 0.5) * scale, sum = 0;
    int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
    if (low < 0) low = 0;
    if (high > axis->in) high = axis->in;
    for (int x = low; x < high; x++) {
      double away = fabs((x - center + 0.5) * inverse);
      sum += found[x - low] = away < 1 ? 1 - away : 0;
    }
    for (int x = 0; x < high - low; x++)
      axis->weights[i * axis->step + x] = (int)(0.5 + (sum ? found[x] / sum : found[x]) * (1 << BITS));
    axis->first[i] = low;
    axis->pixels[i] = high - low;
    if (high > axis->end) axis->end = high;
  }
}

/* `ROWS` rows of `wide` bytes, four a pixel, the first one at `offset`, as rows of `narrow` bytes with `axis->count`
   pixels of three; behind each one byte more is written. The rows go side by side through `mixed` and `sum`. */
FOR_THIS_CPU static void across(const struct axis *axis, const uint8_t *rows, int wide, int offset,
                                uint8_t *restrict mixed, sums *restrict sum, int flip, uint8_t *restrict out,
                                int narrow) {
  int begin = axis->first[0], pixels = axis->end - begin, count = axis->count;
  sums *restrict in = sum + count;
  for (int row = 0; row < ROWS; row++, rows += wide)
    for (int x = 0; x < pixels; x++) memcpy(mixed + SIDE * x + 4 * row, rows + 4 * (begin - offset + x), 4);
  for (int i = 0; i < pixels * SIDE; i++) ((int32_t *)in)[i] = mixed[i];
  for (int x = 0; x < count; x++) {
    int i = flip ? count - 1 - x : x, length = axis->pixels[i];
    const int *weights = axis->weights + i * axis->step;
    const sums *next = in + axis->first[i] - begin;
    sums total = {0};
    for (int t = 0; t < length; t++) total += next[t] * weights[t];
    sum[x] = total;
  }
  for (int i = 0; i < count * SIDE; i++) mixed[i] = (uint8_t)((((int32_t *)sum)[i] + HALF) >> BITS);
  for (int row = 0; row < ROWS; row++, out += narrow)
    for (int x = 0; x < count; x++) memcpy(out + 3 * x, mixed + SIDE * x + 4 * row, 4);
}

/* Result `i` of the axis from rows of `width` bytes, the first one at `offset`. */
FOR_THIS_CPU static void down(const struct axis *axis, int i, const uint8_t *rows, int offset, int width,
                              uint8_t *out) {
  const uint8_t *first = rows + (size_t)(axis->first[i] - offset) * width;
  const int *weights = axis->weights + i * axis->step;
  for (int x = 0; x < width; x += BLOCK) {
    int32_t sum[BLOCK];
    for (int k = 0; k < BLOCK; k++) sum[k] = HALF;
    for (int t = 0; t < axis->pixels[i]; t++)
      for (int k = 0; k < BLOCK; k++) sum[k] += first[(size_t)t * width + x + k] * weights[t];
    for (int k = 0; k < BLOCK; k++) out[x + k] = (uint8_t)(sum[k] >> BITS);
  }
}

