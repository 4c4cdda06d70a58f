// Products with packed weights, scale * (code - zero), a scale and a zero point for each group of inputs of an output.
//
// Sixteen outputs make a tile. A line of 64 bytes holds, for each output of a tile, the codes of four inputs: at 8 bits the
// first four; at 4 bits eight, the first four in the low halves of the bytes, the others in the high ones. A tile's
// lines follow each other along the inputs, so that weights stream straight through.
//
// Where the processor multiplies bytes (VNNI), activations are rounded to 8 bits too, by a scale for each segment of
// at most 64 inputs, and sums of codes are exact integers; elsewhere, and in float32, activations stay as they are.
// Either way a row's result does not depend on how many rows and tiles are computed at once, bit for bit.

#include "threads.h"
#include "dense.h"

enum { INT8 = 2, INT4 = 3 };  // beside FLOAT32 and BFLOAT16
enum { LARGEST_SEGMENT = 64 };
enum { FETCHED_AHEAD = 8192 };  // bytes; two small pages, since processors foresee nothing beyond the end of one

// Rows of activations as packed products read them.
typedef struct {
    int8_t *codes;   // [rows, stride]
    float *scales;   // [rows, segments]: of a code
    int32_t *owing;  // [rows, segments]: minus the sum of the codes, by which zero points are taken off
    float *whole;    // [rows, stride], instead of the three, where products are done in float32
    int32_t stride, segments, segment;
} Activations;

INLINE int lines(const Linear *l) { return l->kind == INT4 ? (l->inner + 7) / 8 : (l->inner + 3) / 4; }
INLINE int tiles(const Linear *l) { return (l->outer + LANES - 1) / LANES; }
INLINE int groups(const Linear *l) { return (l->inner + l->group - 1) / l->group; }
INLINE const char *tile_lines(const Linear *l, int tile) { return (const char *)l->weight + (int64_t)tile * lines(l) * 64; }

INLINE floats group_scale(const Linear *l, int64_t tile, int group) {
    int64_t at = (tile * groups(l) + group) * LANES;
    return load(l->scale_kind, (const char *)l->scales + at * itemsize(l->scale_kind));
}

INLINE ints group_zero(const Linear *l, int64_t tile, int group) {
    bytes zeros;
    memcpy(&zeros, l->zeros + (tile * groups(l) + group) * LANES, sizeof zeros);
    return widen(zeros);
}

#ifdef __AVX512VNNI__
// What four tiles hold, by names and not by numbers, so that compilers keep all of it in registers.
typedef struct {
    __m512i a, b, c, d;
} Four;

INLINE __m512i low_half(__m512i all) { return _mm512_and_si512(all, _mm512_set1_epi8(15)); }
INLINE __m512i high_half(__m512i all) { return low_half(_mm512_srli_epi16(all, 4)); }
INLINE Four four_lines(const char *w, int64_t tile_bytes) {
    return (Four){_mm512_loadu_si512(w), _mm512_loadu_si512(w + tile_bytes), _mm512_loadu_si512(w + 2 * tile_bytes),
                  _mm512_loadu_si512(w + 3 * tile_bytes)};
}
INLINE Four low_halves(Four l) { return (Four){low_half(l.a), low_half(l.b), low_half(l.c), low_half(l.d)}; }
INLINE Four high_halves(Four l) { return (Four){high_half(l.a), high_half(l.b), high_half(l.c), high_half(l.d)}; }
INLINE __m512i quad_at(const int8_t *x) {
    int32_t quad;
    memcpy(&quad, x, sizeof quad);
    return _mm512_set1_epi32(quad);
}
INLINE Four add_products(Four sums, Four w, const int8_t *x) {
    __m512i quad = quad_at(x);
    return (Four){_mm512_dpbusd_epi32(sums.a, w.a, quad), _mm512_dpbusd_epi32(sums.b, w.b, quad),
                  _mm512_dpbusd_epi32(sums.c, w.c, quad), _mm512_dpbusd_epi32(sums.d, w.d, quad)};
}

// What a segment's sum begins with: minus zero * sum of x, so that it ends as (codes - zero) . x, exactly.
INLINE __m512i owed(ints zero, const Activations *x, int64_t at) {
    return _mm512_mullo_epi32((__m512i)zero, _mm512_set1_epi32(x->owing[at]));
}
INLINE Four owed_by_four(const ints *zeros, const Activations *x, int64_t at) {
    return (Four){owed(zeros[0], x, at), owed(zeros[1], x, at), owed(zeros[2], x, at), owed(zeros[3], x, at)};
}
INLINE floats add_segment(floats sum, __m512i exact, floats scale, const Activations *x, int64_t at) {
    return fused((floats)_mm512_cvtepi32_ps(exact), scale * splat(x->scales[at]), sum);
}

// Four tiles by R rows, at most 4: y[r][16 t + lane]. Two lines of `next` are fetched for every four multiplied, unless it is NULL.
INLINE void integers_four(int kind, int R, const Linear *l, int first, const Activations *x, int row, float *y, int64_t step,
                          const char *next) {
    int per_line = kind == INT4 ? 8 : 4, count = lines(l), per_segment = x->segment / per_line;
    int64_t tile_bytes = (int64_t)count * 64, stride = x->stride;
    const char *w = tile_lines(l, first);
    const int8_t *codes = x->codes + (int64_t)row * stride;
    floats sums[16];
    for (int i = 0; i < 4 * R; i++) sums[i] = splat(0);
    for (int s = 0, line = 0; line < count; s++) {
        int stop = line + per_segment < count ? line + per_segment : count, group = s * x->segment / l->group;
        int64_t at = (int64_t)row * x->segments + s;
        ints zeros[4];
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) zeros[t] = group_zero(l, first + t, group);
        Four r0 = owed_by_four(zeros, x, at), r1 = r0, r2 = r0, r3 = r0;
        if (R > 1) r1 = owed_by_four(zeros, x, at + x->segments);
        if (R > 2) r2 = owed_by_four(zeros, x, at + 2 * x->segments);
        if (R > 3) r3 = owed_by_four(zeros, x, at + 3 * x->segments);
        for (; line < stop; line++) {
            const int8_t *from = codes + line * per_line;
            if (next) __builtin_prefetch(next + line * 128, 0, 2), __builtin_prefetch(next + line * 128 + 64, 0, 2);
            Four all = four_lines(w + (int64_t)line * 64, tile_bytes), half = kind == INT4 ? low_halves(all) : all;
            r0 = add_products(r0, half, from);
            if (R > 1) r1 = add_products(r1, half, from + stride);
            if (R > 2) r2 = add_products(r2, half, from + 2 * stride);
            if (R > 3) r3 = add_products(r3, half, from + 3 * stride);
            if (kind != INT4) continue;
            half = high_halves(all);
            r0 = add_products(r0, half, from + 4);
            if (R > 1) r1 = add_products(r1, half, from + stride + 4);
            if (R > 2) r2 = add_products(r2, half, from + 2 * stride + 4);
            if (R > 3) r3 = add_products(r3, half, from + 3 * stride + 4);
        }
        Four rows[4] = {r0, r1, r2, r3};
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            floats scale = group_scale(l, first + t, group);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) {
                __m512i exact = t == 0 ? rows[r].a : t == 1 ? rows[r].b : t == 2 ? rows[r].c : rows[r].d;
                sums[4 * r + t] = add_segment(sums[4 * r + t], exact, scale, x, at + r * x->segments);
            }
        }
    }
    for (int i = 0; i < 4 * R; i++) store_all(FLOAT32, y + i / 4 * step + i % 4 * LANES, sums[i]);
}

// One tile by one row: the weights pass by once, straight through, and what comes later is fetched into the second cache.
INLINE void integers_one(int kind, const Linear *l, int tile, const Activations *x, int row, float *y) {
    int per_line = kind == INT4 ? 8 : 4, count = lines(l), per_segment = x->segment / per_line;
    const char *w = tile_lines(l, tile);
    const int8_t *from = x->codes + (int64_t)row * x->stride;
    floats sum = splat(0);
    for (int s = 0, line = 0; line < count; s++) {
        int stop = line + per_segment < count ? line + per_segment : count, group = s * x->segment / l->group;
        int64_t at = (int64_t)row * x->segments + s;
        __m512i even = owed(group_zero(l, tile, group), x, at), odd = _mm512_setzero_si512();
        for (; line < stop; line++, w += 64, from += per_line) {
            __builtin_prefetch(w + FETCHED_AHEAD, 0, 2);
            __m512i all = _mm512_loadu_si512(w);
            even = _mm512_dpbusd_epi32(even, kind == INT4 ? low_half(all) : all, quad_at(from));
            if (kind == INT4) odd = _mm512_dpbusd_epi32(odd, high_half(all), quad_at(from + 4));
        }
        sum = add_segment(sum, _mm512_add_epi32(even, odd), group_scale(l, tile, group), x, at);
    }
    store_all(FLOAT32, y, sum);
}
#endif

// One tile by R rows in float32.
INLINE void packed_floats(int kind, int R, const Linear *l, int tile, const Activations *x, int row, float *y, int64_t step) {
    int quads = kind == INT4 ? 2 : 1, count = lines(l);
    const char *w = tile_lines(l, tile);
    floats sums[4];
    for (int r = 0; r < R; r++) sums[r] = splat(0);
    for (int line = 0; line < count; line++) {
        ints all;
        memcpy(&all, w + (int64_t)line * 64, sizeof all);
        int input = line * 4 * quads, group = input / l->group < groups(l) ? input / l->group : groups(l) - 1;
        floats scale = group_scale(l, tile, group);
        ints zero = group_zero(l, tile, group);
        for (int i = 0; i < 4 * quads; i++, input++) {
            ints code = all >> (8 * (i % 4) + 4 * (i / 4)) & (kind == INT4 ? 15 : 255);
            floats weight = scale * __builtin_convertvector(code - zero, floats);
            for (int r = 0; r < R; r++) sums[r] = fused(weight, splat(x->whole[(int64_t)(row + r) * x->stride + input]), sums[r]);
        }
    }
    for (int r = 0; r < R; r++) store_all(FLOAT32, y + r * step, sums[r]);
}

// Tiles first..first+count-1 (at most 4) for R rows.
INLINE void packed_rows(int kind, int R, const Linear *l, int first, int count, const Activations *x, int row, float *y,
                        int64_t step, const char *next) {
    (void)next;
#ifdef __AVX512VNNI__
    if (x->codes) {
        if (count == 4 && R > 1) integers_four(kind, R, l, first, x, row, y, step, next);
        else
            for (int i = 0; i < count * R; i++)
                integers_one(kind, l, first + i / R, x, row + i % R, y + i % R * step + i / R * LANES);
        return;
    }
#endif
    for (int t = 0; t < count; t++) packed_floats(kind, R, l, first + t, x, row, y + t * LANES, step);
}

// The first rows wait for these tiles' lines to come from memory; the second and third four fetch the lines behind them meanwhile,
// half each.
INLINE const char *fetched_by(const Linear *l, int first, int r) {
    int pass = r / 4;
    return pass == 1 || pass == 2 ? tile_lines(l, first + 2 + 2 * pass) : NULL;
}

INLINE void packed_kind(int kind, const Linear *l, int first, int count, const Activations *x, int top, int rows, float *y,
                        int64_t step) {
    for (int r = 0; r < rows;) {
        const char *next = fetched_by(l, first, r);
        if (rows - r >= 4) packed_rows(kind, 4, l, first, count, x, top + r, y + r * step, step, next), r += 4;
        else if (rows - r >= 2) packed_rows(kind, 2, l, first, count, x, top + r, y + r * step, step, next), r += 2;
        else packed_rows(kind, 1, l, first, count, x, top + r, y + r * step, step, next), r++;
    }
}

// y[r][o - begin] for outputs begin..end-1, both multiples of 16, at most 64, and rows top..top+rows-1; whole tiles are written.
static void product_packed(const Linear *l, int begin, int end, const Activations *x, int top, int rows, float *y, int64_t step) {
    int first = begin / LANES, count = (end - begin + LANES - 1) / LANES;
    if (l->kind == INT4) packed_kind(INT4, l, first, count, x, top, rows, y, step);
    else packed_kind(INT8, l, first, count, x, top, rows, y, step);
}

// A row of activations, `count` of them from input `from` on, a multiple of the segment; behind the last one zeros.
static void pack_activations(const Activations *to, int row, int from, const float *x, int count, int inner) {
    int64_t behind = (int64_t)row * to->stride + inner;
    if (from + count == inner && to->whole) memset(to->whole + behind, 0, 4 * (to->stride - inner));
    if (from + count == inner && to->codes) memset(to->codes + behind, 0, to->stride - inner);
    if (to->whole) {
        memcpy(to->whole + (int64_t)row * to->stride + from, x, 4 * count);
        return;
    }
    for (int begin = 0; begin < count; begin += to->segment) {
        int size = count - begin < to->segment ? count - begin : to->segment, end = round_up(size, LANES);
        int64_t at = (int64_t)row * to->segments + (from + begin) / to->segment;
        int8_t *codes = to->codes + (int64_t)row * to->stride + from + begin;
        _Alignas(64) float filled[LARGEST_SEGMENT] = {0};
        const float *values = x + begin;
        if (size < end) values = memcpy(filled, values, 4 * size);
        floats most = splat(0);
        for (int i = 0; i < end; i += LANES) {
            floats v = load(FLOAT32, values + i), size_of = choose(v < 0.0f, -v, v);
            most = choose(size_of > most, size_of, most);
        }
        float highest = largest(most), inverse = highest > 0 ? 127 / highest : 0;
        ints sum = {0};
        for (int i = 0; i < end; i += LANES) {
            int8_t few[LANES];
            ints code = nearest(load(FLOAT32, values + i) * inverse);
            narrow(few, code);
            memcpy(codes + i, few, size - i < LANES ? size - i : LANES);
            sum += code;
        }
        to->scales[at] = highest / 127;
        to->owing[at] = -whole_total(sum);
    }
}

// Codes as the GPTQ layout stores them, int32 [inner * bits / 32, outer], as tiles of lines.
typedef struct {
    const uint32_t *words;
    uint32_t *lines;
    int32_t bits, words_count, outer;
} Packing;

static void pack_together(const void *job, int thread) {
    (void)thread;
    const Packing *p = job;
    EACH_TASK(tile, (p->outer + LANES - 1) / LANES) {
        uint32_t *to = p->lines + (int64_t)tile * p->words_count * LANES;
        int width = p->outer - tile * LANES < LANES ? p->outer - tile * LANES : LANES;
        for (int line = 0; line < p->words_count; line++, to += LANES) {
            uint32_t all[LANES] = {0};
            memcpy(all, p->words + (int64_t)line * p->outer + tile * LANES, 4 * width);
            for (int i = 0; i < LANES; i++) {
                uint32_t a = all[i] & 0xffff, b = all[i] >> 16;
                a = (a | a << 8) & 0x00ff00ff, a = (a | a << 4) & 0x0f0f0f0f;
                b = (b | b << 8) & 0x00ff00ff, b = (b | b << 4) & 0x0f0f0f0f;
                to[i] = p->bits == 4 ? a | b << 4 : all[i];
            }
        }
    }
    barrier();
}

// Brings 4- or 8-bit codes into lines.
void camelid_pack(const Packing *packing, int threads) { run_together(pack_together, packing, threads); }
