/* libjpeg, as much of it as is used, and the work on one file: where it fails, and what memory it has.

   No header of libjpeg is needed: what is declared here is the same in its ABIs 6.2, 7 and 8, and jpeg_CreateDecompress
   refuses another size or version of the struct. */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define FOR_THIS_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_THIS_CPU
#endif

enum { WARNING = -1 };

struct decompress;

struct errors {
  void (*error_exit)(struct decompress *);
  void (*emit_message)(struct decompress *, int);
  void *others[30];
};

struct decompress {
  struct errors *errors;
  void *memory, *progress, *client;
  int is_decompressor, state;
  void *source;
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

struct entropy { /* as jpegint.h has it since libjpeg 6 */
  void (*start)(struct decompress *);
  int (*decode_unit)(struct decompress *, int16_t **);
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

/* -- One file, and its memory --------------------------------------------------------------------------------- */

struct job {
  struct decompress jpeg; /* first: libjpeg's handlers get its address */
  struct errors errors;
  jmp_buf failed;
  void **blocks; /* memory, each block with the address of the one before */
  void *scan;    /* of jpeg_huffman.h */
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

static int is_of_libjpeg(void *function) {
  Dl_info here, there;
  return dladdr(function, &here) && dladdr((void *)jpeg.std_error, &there) && here.dli_fbase == there.dli_fbase;
}

/* Of a file that has been started; NULL: it is not where it should be. In all ABIs the struct ends with eleven
   addresses, of which this is the seventh. */
static struct entropy *entropy_of(struct decompress *file) {
  struct entropy *found;
  memcpy(&found, (char *)file + jpeg.size - 5 * sizeof found, sizeof found);
  return is_of_libjpeg((void *)found->start) && is_of_libjpeg((void *)found->decode_unit) ? found : NULL;
}
