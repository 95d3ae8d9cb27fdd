/* A box of a JPEG, resized: the pixels are those of Pillow's Image.resize(size, BILINEAR, box), bit for bit.

   The libjpeg-turbo that Pillow has loaded decodes (jpeg_crop_scanline and jpeg_skip_scanlines compute no pixels outside
   the box); resizing is that of Pillow's src/libImaging/Resample.c, with its coefficients of 22 bits. Every other file
   than a sound baseline JPEG of three components is left to Pillow, whose words on it are wanted.

   Compiled by jpeg_crop.py. No header of libjpeg is needed: what is declared here is the same in its ABIs 6.2, 7 and 8,
   jpeg_CreateDecompress refuses another size or version of the struct, and jpeg_crop.py compares pixels before use. */
#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define FOR_THIS_CPU __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_THIS_CPU
#endif

enum { BITS = 22, HALF = 1 << (BITS - 1), ROWS = 8, MARGIN = 2, LARGEST = 1 << 26 };
enum { YCBCR = 3, RGB = 2, RGBX = 7, HEADER_OK = 1, WARNING = -1 };

typedef int32_t four __attribute__((vector_size(16)));

/* -- jpeglib.h, as much as is used ------------------------------------------------------------------------- */

struct decompress;

struct errors {
  void (*error_exit)(struct decompress *);
  void (*emit_message)(struct decompress *, int);
  void *others[30];
};

struct source {
  const uint8_t *next;
  size_t left;
};

struct decompress {
  struct errors *errors;
  void *memory, *progress, *client;
  int is_decompressor, state;
  struct source *source;
  unsigned width, height;
  int components, color_space, out_color_space;
  unsigned scale, denominator;
  double gamma;
  int modes[12];
  unsigned out_width, out_height;
  int out_numbers[4];
  void *colormap;
  unsigned scanline;
  char others[600];
};

static struct {
  struct errors *(*std_error)(struct errors *);
  void (*create)(struct decompress *, int, size_t);
  void (*mem_src)(struct decompress *, const uint8_t *, unsigned long);
  int (*read_header)(struct decompress *, int);
  int (*has_multiple_scans)(struct decompress *);
  int (*start)(struct decompress *);
  void (*crop)(struct decompress *, unsigned *, unsigned *);
  unsigned (*skip)(struct decompress *, unsigned);
  unsigned (*read)(struct decompress *, uint8_t **, unsigned);
  void (*destroy)(struct decompress *);
  int version;
  size_t size;
} jpeg;

/* -- One file ---------------------------------------------------------------------------------------------- */

struct job {
  struct decompress jpeg; /* first: libjpeg's handlers get its address */
  struct errors errors;
  jmp_buf failed;
  void **blocks; /* memory, each block with the address of the one before */
};

static void fail(struct decompress *jpeg) { longjmp(((struct job *)jpeg)->failed, 1); }

static void fail_if_warning(struct decompress *jpeg, int level) {
  if (level == WARNING) fail(jpeg); /* damaged data */
}

static struct job *begin(void) {
  struct job *job = calloc(1, sizeof *job);
  if (!job) return NULL;
  job->jpeg.errors = jpeg.std_error(&job->errors);
  job->errors.error_exit = fail;
  job->errors.emit_message = fail_if_warning;
  return job;
}

static void end(struct job *job) {
  if (!job) return;
  if (job->jpeg.memory) jpeg.destroy(&job->jpeg);
  while (job->blocks) {
    void **block = job->blocks;
    job->blocks = block[0];
    free(block);
  }
  free(job);
}

/* Zeros, until the end of the job. */
static void *take(struct job *job, size_t size) {
  void **block = calloc(1, size + 2 * sizeof *block);
  if (!block) fail(&job->jpeg);
  block[0] = job->blocks;
  job->blocks = block;
  return block + 2;
}

/* Whether the scan goes on to the end of the file: a marker within it, as a disk fault or a cut leaves one, may be an
   error to who decodes all rows, though not to who stops before. */
static int is_whole(const uint8_t *next, const uint8_t *end) {
  while ((next = memchr(next, 0xff, end - next)) != NULL && end - next >= 2) {
    if (next[1] == 0xd9) return end - next == 2;
    if (next[1] != 0 && (next[1] < 0xd0 || next[1] > 0xd7)) return 0;
    next += 2;
  }
  return 0;
}

static int read_header(struct job *job, const uint8_t *data, size_t size) {
  struct decompress *file = &job->jpeg;
  jpeg.create(file, jpeg.version, jpeg.size);
  jpeg.mem_src(file, data, size);
  if (jpeg.read_header(file, 1) != HEADER_OK || file->components != 3 || jpeg.has_multiple_scans(file)) return 0;
  if (file->color_space != YCBCR && file->color_space != RGB) return 0;
  return (uint64_t)file->width * file->height <= LARGEST;
}

/* -- Resizing ---------------------------------------------------------------------------------------------- */

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

/* A row of four bytes a pixel, the first one at `offset`, as one of `axis->count` pixels of three; `wide` has its room. */
FOR_THIS_CPU static void across(const struct axis *axis, const uint8_t *row, int offset, int *wide, int flip,
                                uint8_t *out) {
  int begin = 4 * (axis->first[0] - offset), end = 4 * (axis->end - offset);
  for (int i = begin; i < end; i++) wide[i] = row[i];
  for (int i = 0; i < axis->count; i++) {
    const int *pixels = wide + 4 * (axis->first[i] - offset), *weights = axis->weights + i * axis->step;
    four sum = {HALF, HALF, HALF, HALF}, pixel;
    for (int t = 0; t < axis->pixels[i]; t++) {
      memcpy(&pixel, pixels + 4 * t, sizeof pixel);
      sum += pixel * weights[t];
    }
    sum >>= BITS;
    uint8_t *to = out + 3 * (flip ? axis->count - 1 - i : i);
    to[0] = (uint8_t)sum[0];
    to[1] = (uint8_t)sum[1];
    to[2] = (uint8_t)sum[2];
  }
}

/* Result `i` of the axis from rows of `width` bytes, the first one at `offset`; `sums` has its room. */
FOR_THIS_CPU static void down(const struct axis *axis, int i, const uint8_t *rows, int offset, int width, int *sums,
                              uint8_t *out) {
  const uint8_t *row = rows + (size_t)(axis->first[i] - offset) * width;
  for (int x = 0; x < width; x++) sums[x] = HALF;
  for (int t = 0; t < axis->pixels[i]; t++, row += width) {
    int weight = axis->weights[i * axis->step + t];
    for (int x = 0; x < width; x++) sums[x] += row[x] * weight;
  }
  for (int x = 0; x < width; x++) out[x] = (uint8_t)(sums[x] >> BITS);
}

/* Decode what the two axes need of the file, as rows of four bytes a pixel. Each comes to `across` at once, or, where
   Pillow goes down first, is kept for `down`. */
static int resize(struct job *job, struct axis *x, struct axis *y, int down_first, int flip, uint8_t *out) {
  struct decompress *file = &job->jpeg;
  /* Upsampling of the colours looks at a neighbour; libjpeg begins at a multiple of 8 or 16 pixels. */
  unsigned left = x->first[0] < MARGIN ? 0 : x->first[0] - MARGIN, top = y->first[0] < MARGIN ? 0 : y->first[0] - MARGIN;
  unsigned right = x->end + MARGIN < x->in ? x->end + MARGIN : x->in, width = right - left;
  file->out_color_space = RGBX;
  jpeg.start(file);
  if (width < file->out_width) jpeg.crop(file, &left, &width);
  if (top && jpeg.skip(file, top) != top) return 0;

  int bytes = 4 * (int)file->out_width, kept = down_first ? bytes : 3 * x->count, widest = bytes > kept ? bytes : kept;
  uint8_t *buffer = take(job, (size_t)ROWS * bytes), *rows[ROWS];
  uint8_t *all = take(job, (size_t)(y->end - top) * kept), *next = all;
  int *room = take(job, widest * sizeof(int));
  for (int got, at = (int)top; at < y->end; at += got) {
    for (int i = 0; i < ROWS; i++) rows[i] = down_first ? next + (size_t)i * bytes : buffer + (size_t)i * bytes;
    if (!(got = (int)jpeg.read(file, rows, y->end - at < ROWS ? y->end - at : ROWS))) return 0;
    for (int i = 0; i < got; i++, next += kept)
      if (!down_first) across(x, rows[i], (int)left, room, flip, next);
  }
  for (int i = 0; i < y->count; i++, out += 3 * x->count)
    if (!down_first) {
      down(y, i, all, (int)top, kept, room, out);
    } else {
      down(y, i, all, (int)top, kept, room, buffer);
      across(x, buffer, (int)left, room, flip, out);
    }
  return 1;
}

/* -- What Python calls ------------------------------------------------------------------------------------- */

static int fits(int version, size_t size) {
  struct job *job = begin();
  int good = 0;
  jpeg.version = version;
  jpeg.size = size;
  if (job && !setjmp(job->failed)) {
    jpeg.create(&job->jpeg, version, size);
    good = 1;
  }
  end(job);
  return good;
}

/* Use this libjpeg. NULL, or what it lacks. */
const char *jpeg_crop_open(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return "the form of a library";
#define FIND(field, name) \
  if (!(*(void **)&jpeg.field = dlsym(library, name))) return name;
  FIND(std_error, "jpeg_std_error")
  FIND(create, "jpeg_CreateDecompress")
  FIND(mem_src, "jpeg_mem_src")
  FIND(read_header, "jpeg_read_header")
  FIND(has_multiple_scans, "jpeg_has_multiple_scans")
  FIND(start, "jpeg_start_decompress")
  FIND(crop, "jpeg_crop_scanline")
  FIND(skip, "jpeg_skip_scanlines")
  FIND(read, "jpeg_read_scanlines")
  FIND(destroy, "jpeg_destroy_decompress")
  return fits(62, 632) || fits(70, 640) || fits(80, 656) ? NULL : "a known ABI";
}

/* 1, and the size in pixels, where this is a file that jpeg_crop_resize decodes; else 0. */
int jpeg_crop_size(const uint8_t *data, size_t size, int *width, int *height) {
  struct job *job = begin();
  int good = job && !setjmp(job->failed) && read_header(job, data, size);
  if (good) {
    struct source *source = job->jpeg.source;
    *width = (int)job->jpeg.width;
    *height = (int)job->jpeg.height;
    good = is_whole(source->next, source->next + source->left);
  }
  end(job);
  return good;
}

/* The box (left, top, width, height), resized to full (width, height); of this the window (left, top, width, height),
   mirrored where `flip`, as `out`, uint8 [height, width, 3]. `tall_first`: whether this Pillow goes down before across
   in tall images, as from version 13 on. 1, or 0 where Pillow must decode the file. */
int jpeg_crop_resize(const uint8_t *data, size_t size, const int *box, const int *full, const int *window,
                     int tall_first, int flip, uint8_t *out) {
  struct job *job = begin();
  int good = 0;
  if (job && !setjmp(job->failed) && read_header(job, data, size)) {
    int in_width = (int)job->jpeg.width, in_height = (int)job->jpeg.height, less = in_height - full[1];
    struct axis x = {.in = in_width, .begin = box[0], .length = box[2], .across = full[0]};
    struct axis y = {.in = in_height, .begin = box[1], .length = box[3], .across = full[1]};
    fill(job, &x, window[0], window[2]);
    fill(job, &y, window[1], window[3]);
    good = resize(job, &x, &y, tall_first && less > 0 && less > 2 * (in_width - full[0]), flip, out);
  }
  end(job);
  return good;
}
