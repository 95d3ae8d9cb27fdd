/* The header of a JPEG (ITU-T T.81, annex B), read as strictly as Pillow does. */
enum {
  SOF0 = 0xc0, DHT = 0xc4, RST0 = 0xd0, RST7 = 0xd7, SOI, EOI, SOS, DQT, DRI = 0xdd,
  APP0 = 0xe0, APP2 = 0xe2, APP15 = 0xef, COM = 0xfe
};

/* Of a baseline JPEG with one scan of three components. Whether it is `plain`: Pillow, which reads some segments more
   strictly than libjpeg, is known to take it. */
struct header {
  int width, height, plain, restarts;
  const uint8_t *scan, *end;       /* the coded data */
  const uint8_t *tables[2][4];     /* of Huffman codes, for DC and AC: how many there are of each length, the symbols */
  int blocks[3], dc[3], ac[3];     /* of each component: its blocks in a unit (MCU) of the scan, its tables */
};

static int is_plain(int marker, const uint8_t *body, int length) {
  static const char profile[] = "ICC_PROFILE";
  if (marker == DQT) return length == 65 ? body[0] < 16 : length == 130 && body[0] < 16 && body[65] < 16;
  if (marker == APP0) return length >= 7;
  if (marker == APP2) return length >= 14 && memcmp(body, profile, sizeof profile) == 0;
  return marker < APP0 || marker > APP15;
}

static int read_tables(const uint8_t *body, int length, struct header *header) {
  for (int size; length; body += size, length -= size) {
    if (length < 17 || body[0] & 0xec) return 0;
    size = 17;
    for (int i = 1; i <= 16; i++) size += body[i];
    if (size > 17 + 256 || size > length) return 0;
    header->tables[body[0] >> 4][body[0] & 3] = body + 1;
  }
  return 1;
}

/* The frame; the identifiers of its components are kept in `ids`. */
static int read_frame(const uint8_t *body, int length, struct header *header, uint8_t *ids) {
  if (header->width || length != 15 || body[0] != 8 || body[5] != 3) return 0;
  header->height = body[1] << 8 | body[2];
  header->width = body[3] << 8 | body[4];
  for (int i = 0; i < 3; i++) {
    ids[i] = body[6 + 3 * i];
    header->blocks[i] = (body[7 + 3 * i] >> 4) * (body[7 + 3 * i] & 15);
  }
  return header->width && header->height;
}

static int read_scan(const uint8_t *body, int length, struct header *header, const uint8_t *ids) {
  if (!header->width || length != 10 || body[0] != 3) return 0;
  for (int i = 0; i < 3; i++) {
    if (body[1 + 2 * i] != ids[i] || body[2 + 2 * i] & 0xcc) return 0;
    header->dc[i] = body[2 + 2 * i] >> 4;
    header->ac[i] = body[2 + 2 * i] & 3;
  }
  header->scan = body + length;
  return 1;
}

/* 0: it is another file, and left to Pillow. */
static int read_segments(const uint8_t *data, size_t size, struct header *header) {
  const uint8_t *at = data + 2, *end = data + size;
  uint8_t ids[3];
  *header = (struct header){.plain = 1, .end = end};
  if (size < 2 || data[0] != 0xff || data[1] != SOI) return 0;
  while (end - at >= 4 && at[0] == 0xff) {
    int marker = at[1], length = (at[2] << 8 | at[3]) - 2;
    const uint8_t *body = at + 4;
    if (length < 0 || end - body < length) return 0;
    if (marker == SOS) return read_scan(body, length, header, ids);
    if (marker == SOF0) {
      if (!read_frame(body, length, header, ids)) return 0;
    } else if (marker == DHT) {
      if (!read_tables(body, length, header)) return 0;
    } else if (marker == DRI) {
      header->restarts = 1;
    } else if (marker != DQT && marker != COM && (marker < APP0 || marker > APP15)) {
      return 0;
    }
    if (!is_plain(marker, body, length)) header->plain = 0;
    at = body + length;
  }
  return 0;
}

/* Whether the scan goes on to the end of the file: a marker within it, as a disk fault or a cut leaves one, may be an
   error to who decodes all rows, though not to who stops before. */
static int is_whole(const struct header *header) {
  const uint8_t *next = header->scan, *end = header->end;
  while ((next = memchr(next, 0xff, end - next)) != NULL && end - next >= 2) {
    if (next[1] == EOI) return end - next == 2;
    if (next[1] != 0 && (next[1] < RST0 || next[1] > RST7)) return 0;
    next += 2;
  }
  return 0;
}
