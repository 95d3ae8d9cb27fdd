/* A box of a JPEG, resized: the pixels are those of Pillow's Image.resize(size, BILINEAR, box), bit for bit.

   The libjpeg-turbo that Pillow has loaded makes the pixels (jpeg_crop_scanline and jpeg_skip_scanlines leave out those
   outside the box); jpeg_huffman.h reads the coefficients for it, and jpeg_resample.h resizes. Every other file than a
   sound baseline JPEG of three components is left to Pillow, whose words on it are wanted.

   Compiled by jpeg_crop.py, which compares pixels before use. */
#define _GNU_SOURCE /* dladdr */
#include "jpeg_library.h"

#include "jpeg_header.h"
#include "jpeg_huffman.h"
#include "jpeg_resample.h"

enum { YCBCR = 3, RGB = 2, RGBX = 7, HEADER_OK = 1, MARGIN = 2, LARGEST = 1 << 26 };

static int read_header(struct job *job, const uint8_t *data, size_t size) {
  struct decompress *file = &job->jpeg;
  jpeg.create(file, jpeg.version, jpeg.size);
  jpeg.mem_src(file, data, size);
  if (jpeg.read_header(file, 1) != HEADER_OK || file->components != 3 || jpeg.has_multiple_scans(file)) return 0;
  if (file->color_space != YCBCR && file->color_space != RGB) return 0;
  return (uint64_t)file->width * file->height <= LARGEST;
}

/* -- One image -------------------------------------------------------------------------------------------- */

/* For rows that libjpeg writes: aligned ones it writes past the caches (movntdq), and reading them waits for memory. */
static uint8_t *unaligned(void *memory) { return (uint8_t *)memory + 4; }

static int padded(int size) { return (size + BLOCK - 1) / BLOCK * BLOCK; }

/* Decode what the two axes need of the file, as rows of four bytes a pixel. They come to `across` at once, or, where
   Pillow goes down first, are kept for `down`. */
static int resize(struct job *job, const struct header *header, struct axis *x, struct axis *y, int down_first,
                  int flip, uint8_t *out) {
  struct decompress *file = &job->jpeg;
  /* Upsampling of the colours looks at a neighbour; libjpeg begins at a multiple of 8 or 16 pixels. */
  unsigned left = x->first[0] < MARGIN ? 0 : x->first[0] - MARGIN;
  unsigned top = y->first[0] < MARGIN ? 0 : y->first[0] - MARGIN;
  unsigned right = x->end + MARGIN < x->in ? x->end + MARGIN : x->in, width = right - left;
  file->out_color_space = RGBX;
  jpeg.start(file);
  read_coefficients(job, header);
  if (width < file->out_width) jpeg.crop(file, &left, &width);
  if (top && jpeg.skip(file, top) != top) return 0;

  int wide = padded(4 * (int)file->out_width), narrow = padded(3 * x->count + 1), kept = down_first ? wide : narrow;
  sums *sum = take(job, (file->out_width + x->count) * sizeof *sum);
  uint8_t *mixed = take(job, ((int)file->out_width > x->count ? (int)file->out_width : x->count) * SIDE);
  uint8_t *four = unaligned(take(job, (size_t)ROWS * wide + 4)), *done = take(job, (size_t)ROWS * narrow), *rows[ROWS];
  uint8_t *all = unaligned(take(job, (size_t)(y->end - top + ROWS) * kept + 4)), *next = all;
  for (int at = (int)top; at < y->end; at += ROWS, next += ROWS * kept) {
    int count = y->end - at < ROWS ? y->end - at : ROWS;
    for (int i = 0; i < ROWS; i++) rows[i] = down_first ? next + (size_t)i * wide : four + (size_t)i * wide;
    for (int got, i = 0; i < count; i += got)
      if (!(got = (int)jpeg.read(file, rows + i, count - i))) return 0;
    if (!down_first) across(x, four, wide, (int)left, mixed, sum, flip, next, narrow);
  }
  for (int i = 0; i < y->count; i += ROWS) {
    int count = y->count - i < ROWS ? y->count - i : ROWS;
    for (int row = 0; row < count; row++)
      down(y, i + row, all, (int)top, kept, down_first ? four + (size_t)row * wide : done + (size_t)row * narrow);
    if (down_first) across(x, four, wide, (int)left, mixed, sum, flip, done, narrow);
    for (int row = 0; row < count; row++, out += 3 * x->count) memcpy(out, done + (size_t)row * narrow, 3 * x->count);
  }
  return job->scan ? 2 : 1;
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

/* The size in pixels of a whole baseline JPEG of three components. 0: it is none; 1; or 2: Pillow has to be asked. */
int jpeg_crop_size(const uint8_t *data, size_t size, int *width, int *height) {
  struct header header;
  if (!read_segments(data, size, &header) || !is_whole(&header)) return 0;
  *width = header.width;
  *height = header.height;
  return header.plain ? 1 : 2;
}

/* The box (left, top, width, height), resized to full (width, height); of this the window (left, top, width, height),
   mirrored where `flip`, as `out`, uint8 [height, width, 3]. `tall_first`: whether this Pillow goes down before across
   in tall images, as from version 13 on. 0: Pillow must decode the file; 1; or 2: without libjpeg's Huffman decoder. */
int jpeg_crop_resize(const uint8_t *data, size_t size, const int *box, const int *full, const int *window,
                     int tall_first, int flip, uint8_t *out) {
  struct job *job = begin();
  struct header header;
  int good = 0;
  if (job && !setjmp(job->failed) && read_segments(data, size, &header) && read_header(job, data, size)) {
    int in_width = (int)job->jpeg.width, in_height = (int)job->jpeg.height, less = in_height - full[1];
    if (box[0] + box[2] > in_width || box[1] + box[3] > in_height) fail(&job->jpeg);
    struct axis x = {.in = in_width, .begin = box[0], .length = box[2], .across = full[0]};
    struct axis y = {.in = in_height, .begin = box[1], .length = box[3], .across = full[1]};
    fill(job, &x, window[0], window[2]);
    fill(job, &y, window[1], window[3]);
    good = resize(job, &header, &x, &y, tall_first && less > 0 && less > 2 * (in_width - full[0]), flip, out);
  }
  end(job);
  return good;
}
