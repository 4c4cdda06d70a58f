#pragma once
// Products with packed weights (see lines.h): in integers where the processor multiplies bytes (see
// integers.h), elsewhere, and in float32, with activations as they are. Either way a row's result does not
// depend on how many rows and tiles are computed at once, bit for bit.

#include "dense_amx.h"
#include "integers_amx.h"
#include "integers_narrow.h"
#include "threads.h"

// One tile by R rows in float32.
INLINE void packed_floats(int kind, int R, const Linear *l, int tile, const Activations *x, int row, float *y,
                          int64_t step) {
    int quads = kind == INT4 ? 2 : 1, count = lines(l);
    const char *w = tile_lines(l, tile);
    floats sums[4];
    for (int r = 0; r < R; r++) sums[r] = splat(0);
    for (int line = 0; line < count; line++) {
        ints all = load_ints(w + (int64_t)line * 64);
        int input = line * 4 * quads, group = input / l->group < groups(l) ? input / l->group : groups(l) - 1;
        floats scale = group_scale(l, tile, group);
        ints zero = group_zero(l, tile, group);
        for (int i = 0; i < 4 * quads; i++, input++) {
            ints code = shifted(all, 8 * (i % 4) + 4 * (i / 4), kind == INT4 ? 15 : 255);
            floats weight = multiply(scale, floats_of(subtract_ints(code, zero)));
            for (int r = 0; r < R; r++)
                sums[r] = fused(weight, splat(x->whole[(int64_t)(row + r) * x->stride + input]), sums[r]);
        }
    }
    for (int r = 0; r < R; r++) store_all(FLOAT32, y + r * step, sums[r]);
}

// Tiles first..first+count-1 (at most 4) for R rows.
INLINE void packed_rows(int kind, int R, const Linear *l, int first, int count, const Activations *x, int row,
                        float *y, int64_t step, const char *next) {
    (void)next;
#ifdef __AVX512VNNI__
    if (x->codes) {
        if (count == 4 && R > 1) integers_four(kind, R, l, first, x, row, y, step, next);
        else
            for (int i = 0; i < count * R; i++)
                integers_one(kind, l, first + i / R, x, row + i % R, y + i % R * step + i / R * LANES);
        return;
    }
#elif defined(NARROW_INTEGERS)
    if (x->codes) {
        for (int t = 0; t < count; t++) integers_rows(kind, R, l, first + t, x, row, y + t * LANES, step);
        return;
    }
#endif
    for (int t = 0; t < count; t++) packed_floats(kind, R, l, first + t, x, row, y + t * LANES, step);
}

// The first rows wait for these tiles' lines to come from memory; the second and third four fetch the lines
// behind them meanwhile, half each.
INLINE const char *fetched_by(const Linear *l, int first, int r) {
    int pass = r / 4;
    return pass == 1 || pass == 2 ? tile_lines(l, first + 2 + 2 * pass) : NULL;
}

INLINE void packed_kind(int kind, const Linear *l, int first, int count, const Activations *x, int top,
                        int rows, float *y, int64_t step) {
    for (int r = 0; r < rows;) {
        const char *next = fetched_by(l, first, r);
        if (rows - r >= 4)
            packed_rows(kind, 4, l, first, count, x, top + r, y + r * step, step, next), r += 4;
        else if (rows - r >= 2)
            packed_rows(kind, 2, l, first, count, x, top + r, y + r * step, step, next), r += 2;
        else packed_rows(kind, 1, l, first, count, x, top + r, y + r * step, step, next), r++;
    }
}

// y[r][o - begin] for outputs begin..end-1, both multiples of 16, at most 64, and rows top..top+rows-1; whole
// pairs of tiles are written.
static void product_packed(const Linear *l, int begin, int end, const Activations *x, int top, int rows,
                           float *y, int64_t step) {
    int first = begin / LANES, count = (end - begin + LANES - 1) / LANES;
#ifdef INTEGERS_IN_AMX
    if (x->codes && rows >= FEWEST_AMX_ROWS && may_use_amx()) {
        if (l->kind == INT4) integers_amx(INT4, l, first, count, x, top, rows, y, step);
        else integers_amx(INT8, l, first, count, x, top, rows, y, step);
        return;
    }
#endif
    if (l->kind == INT4) packed_kind(INT4, l, first, count, x, top, rows, y, step);
    else packed_kind(INT8, l, first, count, x, top, rows, y, step);
}

// A row of activations, `count` of them from input `from` on, a multiple of the segment; behind the last one
// zeros.
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
        ints most = splat_ints(0);
        for (int i = 0; i < end; i += LANES) most = larger(most, size_bits(load(FLOAT32, values + i)));
        float highest = largest_size(most), inverse = highest > 0 ? 127 / highest : 0;
        ints sum = splat_ints(0);
        for (int i = 0; i < end; i += LANES) {
            int8_t few[LANES];
            ints code = nearest(multiply(load(FLOAT32, values + i), splat(inverse)));
            narrow(few, code);
            memcpy(codes + i, few, size - i < LANES ? size - i : LANES);
            sum = add_ints(sum, code);
        }
        to->scales[at] = highest / 127;
        to->owing[at] = -whole_total(sum);
    }
}

// Codes as the GPTQ layout stores them, int32 [inner * bits / 32, outer], as tiles of lines.
typedef struct {
    const uint32_t *packed_integers;
    uint32_t *lines;
    int32_t bits, count, outer;
} Packing;

static void pack_together(const void *job, int thread) {
    (void)thread;
    const Packing *p = job;
    EACH_TASK(tile, (p->outer + LANES - 1) / LANES) {
        uint32_t *to = p->lines + (int64_t)tile * p->count * LANES;
        int width = p->outer - tile * LANES < LANES ? p->outer - tile * LANES : LANES;
        for (int line = 0; line < p->count; line++, to += LANES) {
            uint32_t all[LANES] = {0};
            memcpy(all, p->packed_integers + (int64_t)line * p->outer + tile * LANES, 4 * width);
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
