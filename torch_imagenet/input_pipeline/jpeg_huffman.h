/* The coefficients of a baseline scan without restarts (ITU-T T.81, annex F), which take libjpeg most of its time.

   Here most of them come by one look into a table, with their run of zeros and their value. libjpeg calls `decode_unit`
   in the place of its own function. What a sound file does not have ends the job: it is libjpeg's to say more. */

enum { FAST = 11, FEW = 5, ROOM = 32 }; /* FEW * FAST bits are there at once */

/* Of a table, from the upper bits on: the value of a coefficient (16 bits; 0: only its symbol is here), the symbol (8:
   the zeros before it, its size), and how many bits of the scan that is (8; 0: the code is longer than FAST). */
typedef uint32_t entry;

struct table {
  entry entries[1 << FAST]; /* by the next bits of the scan */
  uint32_t limits[17];      /* by length: behind the last code, in 16 bits */
  int offsets[17];          /* from a code to its symbol */
  const uint8_t *symbols;
};

struct bits {
  uint64_t buffer; /* the next ones first */
  int left;        /* of them */
  const uint8_t *next, *end;
};

struct scan {
  struct bits bits;
  const struct table *dc[3], *ac[3];
  int blocks[3], last[3]; /* last: the DC coefficients before */
};

static const uint8_t places[64 + 16] = {
    0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,
    6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31,
    39, 46, 53, 60, 61, 54, 47, 55, 62, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
};

static int signed_value(int value, int size) { return value < 1 << (size - 1) ? value - (1 << size) + 1 : value; }

/* Of the file's table; with the `values` of AC coefficients that fit. libjpeg has checked it. */
static struct table *built(struct job *job, const uint8_t *counts, int values) {
  struct table *table = take(job, sizeof *table);
  int code = 0, number = 0;
  table->symbols = counts + 16;
  for (int length = 1; length <= 16; length++, code <<= 1) {
    table->offsets[length] = number - code;
    for (int i = 0; i < counts[length - 1]; i++, code++, number++) {
      int symbol = table->symbols[number], size = symbol & 15, more = FAST - length;
      for (int rest = 0; more >= 0 && rest < 1 << more; rest++) {
        int fits = values && size && size <= more, value = fits ? signed_value(rest >> (more - size), size) : 0;
        entry found = (uint32_t)value << 16 | (uint32_t)symbol << 8 | (uint32_t)(fits ? length + size : length);
        table->entries[(code << more | rest) & ((1 << FAST) - 1)] = found;
      }
    }
    table->limits[length] = (uint32_t)code << (16 - length);
  }
  return table;
}

static inline void consume(struct bits *bits, int count) {
  bits->buffer <<= count;
  bits->left -= count;
}

/* At least 56 bits. Behind the end there are ROOM zeros. */
static inline void refill(struct job *job, struct bits *bits) {
  uint64_t word;
  memcpy(&word, bits->next, sizeof word);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  word = __builtin_bswap64(word);
#endif
  bits->buffer |= word >> bits->left;
  bits->next += (63 - bits->left) >> 3;
  bits->left |= 56;
  if (bits->next > bits->end + 8) fail(&job->jpeg);
}

/* By this entry, or a longer code. */
static inline int symbol_of(struct job *job, struct bits *bits, const struct table *table, entry entry) {
  if (entry & 255) {
    consume(bits, entry & 63);
    return entry >> 8 & 255;
  }
  uint32_t next = (uint32_t)(bits->buffer >> 48);
  for (int length = FAST + 1; length <= 16; length++)
    if (next < table->limits[length]) {
      consume(bits, length);
      return table->symbols[(int)(next >> (16 - length)) + table->offsets[length]];
    }
  fail(&job->jpeg);
  return 0;
}

static inline int value_of(struct bits *bits, int size) {
  if (!size) return 0;
  int value = (int)(bits->buffer >> (64 - size));
  consume(bits, size);
  return signed_value(value, size);
}

static inline void decode_block(struct job *job, struct bits *bits, const struct table *dc, const struct table *ac,
                                int *last, int16_t *block) {
  refill(job, bits);
  *last += value_of(bits, symbol_of(job, bits, dc, dc->entries[bits->buffer >> (64 - FAST)]) & 15);
  if (*last != (int16_t)*last) fail(&job->jpeg);
  block[0] = (int16_t)*last;
  int at = 1;
  while (at < 64) {
    entry next = 0;
    refill(job, bits);
    for (int i = 0; i < FEW && at < 64; i++) {
      next = ac->entries[bits->buffer >> (64 - FAST)];
      if (!(next >> 16)) break;
      consume(bits, next & 63);
      at += next >> 12 & 15;
      block[places[at++]] = (int16_t)(next >> 16);
    }
    if (next >> 16) continue;
    refill(job, bits);
    int symbol = symbol_of(job, bits, ac, next), size = symbol & 15, zeros = symbol >> 4;
    if (!size && zeros != 15) break;
    at += zeros;
    if (size) block[places[at]] = (int16_t)value_of(bits, size);
    at++;
  }
  if (at > 64) fail(&job->jpeg);
}

/* The next unit into these blocks of zeros, NULL: it is left out. As libjpeg's decode_mcu. */
static int decode_unit(struct decompress *file, int16_t **blocks) {
  struct job *job = (struct job *)file;
  struct scan *scan = job->scan;
  struct bits bits = scan->bits;
  int16_t unused[64];
  for (int i = 0; i < 3; i++)
    for (int block = 0; block < scan->blocks[i]; block++)
      decode_block(job, &bits, scan->dc[i], scan->ac[i], &scan->last[i], blocks ? *blocks++ : unused);
  if ((bits.next - bits.end) * 8 > bits.left) fail(file);
  scan->bits = bits;
  return 1;
}

/* The data without the zero behind each 0xff. NULL where there are restarts. */
static uint8_t *unstuffed(struct job *job, const struct header *header, size_t *size) {
  const uint8_t *next = header->scan, *end = header->end - 2; /* the file is whole */
  uint8_t *data = take(job, end - next + ROOM), *to = data;
  while (next < end) {
    const uint8_t *mark = memchr(next, 0xff, end - next);
    size_t count = (mark ? mark + 1 : end) - next;
    memcpy(to, next, count);
    to += count;
    next += count + 1;
    if (mark && (next > end || mark[1] != 0)) return NULL;
  }
  memset(to, 0, ROOM);
  *size = to - data;
  return data;
}

/* Let libjpeg, which has started, call `decode_unit`. */
static void read_coefficients(struct job *job, const struct header *header) {
  for (int i = 0; i < 3; i++)
    if (!header->tables[0][header->dc[i]] || !header->tables[1][header->ac[i]]) return; /* libjpeg has some itself */
  struct entropy *entropy = header->restarts ? NULL : entropy_of(&job->jpeg);
  size_t size;
  uint8_t *data = entropy ? unstuffed(job, header, &size) : NULL;
  if (!data) return;
  struct scan *scan = job->scan = take(job, sizeof *scan);
  scan->bits = (struct bits){.next = data, .end = data + size};
  for (int i = 0; i < 3; i++) {
    int again = i && header->dc[i] == header->dc[i - 1] && header->ac[i] == header->ac[i - 1];
    scan->blocks[i] = header->blocks[i];
    scan->dc[i] = again ? scan->dc[i - 1] : built(job, header->tables[0][header->dc[i]], 0);
    scan->ac[i] = again ? scan->ac[i - 1] : built(job, header->tables[1][header->ac[i]], 1);
  }
  entropy->decode_unit = decode_unit;
}
