#pragma once
// Packed products where the processor multiplies bytes (VNNI): activations are rounded to 8 bits too, by a
// scale for each segment of at most 64 inputs, and sums of codes are exact integers. A row's result does not
// depend on how many rows and tiles are computed at once, bit for bit.

#include "lines.h"

#ifdef __AVX512VNNI__
// What four tiles hold, by names and not by numbers, so that compilers keep all of it in registers.
typedef struct {
    __m512i a, b, c, d;
} Four;

INLINE __m512i low_half(__m512i all) { return _mm512_and_si512(all, _mm512_set1_epi8(15)); }
INLINE __m512i high_half(__m512i all) { return low_half(_mm512_srli_epi16(all, 4)); }
INLINE Four four_lines(const char *w, int64_t tile_bytes) {
    return (Four){_mm512_loadu_si512(w), _mm512_loadu_si512(w + tile_bytes),
                  _mm512_loadu_si512(w + 2 * tile_bytes), _mm512_loadu_si512(w + 3 * tile_bytes)};
}
INLINE Four low_halves(Four l) { return (Four){low_half(l.a), low_half(l.b), low_half(l.c), low_half(l.d)}; }
INLINE Four high_halves(Four l) {
    return (Four){high_half(l.a), high_half(l.b), high_half(l.c), high_half(l.d)};
}
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

// sum - zero * sum of x, so that it becomes (codes - zero) . x, exactly. Both fit into the low 16 bits, and
// the high ones of zero points are 0.
INLINE __m512i less_zeros(__m512i sum, ints zero, int32_t owing) {
    return _mm512_dpwssd_epi32(sum, (__m512i)zero, _mm512_set1_epi32(owing));
}
INLINE __m512i owed(ints zero, int32_t owing) { return less_zeros(_mm512_setzero_si512(), zero, owing); }
INLINE Four owed_by_four(const ints *zeros, int32_t owing) {
    return (Four){owed(zeros[0], owing), owed(zeros[1], owing), owed(zeros[2], owing), owed(zeros[3], owing)};
}
INLINE floats add_segment(floats sum, __m512i exact, floats scale, float of_row) {
    return fused((floats)_mm512_cvtepi32_ps(exact), scale * splat(of_row), sum);
}

// Four tiles by R rows, at most 4: y[r][16 t + lane]. Two lines of `next` are fetched for every four
// multiplied, unless it is NULL.
INLINE void integers_four(int kind, int R, const Linear *l, int first, const Activations *x, int row,
                          float *y, int64_t step, const char *next) {
    int per_line = inputs_of_line(kind), count = lines(l), per_segment = x->segment / per_line;
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
        const int32_t *owing = x->owing + at;
        Four r0 = owed_by_four(zeros, owing[0]), r1 = r0, r2 = r0, r3 = r0;
        if (R > 1) r1 = owed_by_four(zeros, owing[x->segments]);
        if (R > 2) r2 = owed_by_four(zeros, owing[2 * x->segments]);
        if (R > 3) r3 = owed_by_four(zeros, owing[3 * x->segments]);
        for (; line < stop; line++) {
            const int8_t *from = codes + line * per_line;
            if (next)
                __builtin_prefetch(next + line * 128, 0, 2), __builtin_prefetch(next + line * 128 + 64, 0, 2);
            Four all = four_lines(w + (int64_t)line * 64, tile_bytes),
                 half = kind == INT4 ? low_halves(all) : all;
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
                sums[4 * r + t] = add_segment(sums[4 * r + t], exact, scale, x->scales[at + r * x->segments]);
            }
        }
    }
    for (int i = 0; i < 4 * R; i++) store_all(FLOAT32, y + i / 4 * step + i % 4 * LANES, sums[i]);
}

// One tile by one row: the weights pass by once, straight through, and what comes later is fetched into the
// second cache.
INLINE void integers_one(int kind, const Linear *l, int tile, const Activations *x, int row, float *y) {
    int per_line = inputs_of_line(kind), count = lines(l), per_segment = x->segment / per_line;
    const char *w = tile_lines(l, tile);
    const int8_t *from = x->codes + (int64_t)row * x->stride;
    floats sum = splat(0);
    for (int s = 0, line = 0; line < count; s++) {
        int stop = line + per_segment < count ? line + per_segment : count, group = s * x->segment / l->group;
        int64_t at = (int64_t)row * x->segments + s;
        __m512i even = owed(group_zero(l, tile, group), x->owing[at]), odd = _mm512_setzero_si512();
        for (; line < stop; line++, w += 64, from += per_line) {
            fetch_ahead(w);
            __m512i all = _mm512_loadu_si512(w);
            even = _mm512_dpbusd_epi32(even, kind == INT4 ? low_half(all) : all, quad_at(from));
            if (kind == INT4) odd = _mm512_dpbusd_epi32(odd, high_half(all), quad_at(from + 4));
        }
        sum = add_segment(sum, _mm512_add_epi32(even, odd), group_scale(l, tile, group), x->scales[at]);
    }
    store_all(FLOAT32, y, sum);
}
#endif
