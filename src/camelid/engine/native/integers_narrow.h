#pragma once
// Packed products in integers where registers are narrow: AVX2 with byte products in 16 bits (maddubs) or in
// 32 (AVX-VNNI), and NEON with dot products of bytes or without. Activations are rounded to 8 bits as in
// integers.h, sums of codes are exact, and all targets that fuse a multiplication with an addition compute
// the same bits.

#include "lines.h"

#if defined(PARTS_OF_AVX2) || (defined(__ARM_NEON) && defined(__aarch64__))
#define NARROW_INTEGERS

#if defined(PARTS_OF_AVX2) && !defined(__AVXVNNI__)
// Sums are 16 numbers of 16 bits a part: products of 4-bit codes and activations of 32 inputs fit, 8 * 2 * 15
// * 127. Codes of 8 bits are taken half by half, of 4 bits each.
enum { SUMMED_INPUTS = 32, SPLIT_BYTES = 1 };
#else
enum { SUMMED_INPUTS = LARGEST_SEGMENT, SPLIT_BYTES = 0 };
#endif

// NEON multiplies signed bytes: 128 less than an 8-bit code, which is added again with the zero point.
#ifdef __ARM_NEON
enum { CODE_OFFSET = 128 };
#else
enum { CODE_OFFSET = 0 };
#endif

// sum + the products of four codes and four activations in each lane.
INLINE int_part add_bytes(int_part sum, int_part codes, int_part quad) {
#if defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, (int8x16_t)codes, (int8x16_t)quad);
#elif defined(__ARM_NEON)
    int8x16_t w = (int8x16_t)codes, x = (int8x16_t)quad;
    int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)),
              high = vmull_s8(vget_high_s8(w), vget_high_s8(x));
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#elif defined(__AVXVNNI__)
    return (int_part)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)codes, (__m256i)quad);
#else
    return (int_part)_mm256_add_epi16((__m256i)sum, _mm256_maddubs_epi16((__m256i)codes, (__m256i)quad));
#endif
}
FUNCTION_3(ints, add_quads, ints, ints, ints, add_bytes(a, b, c))

INLINE int_part upper_bits(int_part codes) {  // the high half of each byte
#ifdef __ARM_NEON
    return (int_part)vshrq_n_u8((uint8x16_t)codes, 4);
#else
    return (int_part)_mm256_srli_epi16((__m256i)codes, 4) & 0x0f0f0f0f;
#endif
}
FUNCTION_1(ints, high_halves, ints, upper_bits(a))
FUNCTION_1(ints, low_halves, ints, a & 0x0f0f0f0f)
FUNCTION_1(ints, signed_codes, ints, CODE_OFFSET ? a ^ (int_part)((uint_part){0} + 0x80808080) : a)

// A line's codes: of 4 bits the first four inputs' and the others', of 8 bits the halves of each, or all of
// it first.
typedef struct {
    ints first, second;
} Codes;

INLINE Codes codes_at(int kind, const char *line) {
    ints all = load_ints(line);
    if (kind == INT4 || SPLIT_BYTES) return (Codes){low_halves(all), high_halves(all)};
    return (Codes){signed_codes(all), all};
}

// Sums over some inputs: `second` of the high halves of 8-bit codes.
typedef struct {
    ints first, second;
} Sums;

INLINE ints quad_at(const int8_t *x) {
    int32_t quad;
    memcpy(&quad, x, sizeof quad);
    return splat_ints(quad);
}

INLINE Sums add_line(int kind, Sums sums, Codes codes, const int8_t *x) {
    ints quad = quad_at(x);
    sums.first = add_quads(sums.first, codes.first, quad);
    if (kind == INT4) sums.first = add_quads(sums.first, codes.second, quad_at(x + 4));
    else if (SPLIT_BYTES) sums.second = add_quads(sums.second, codes.second, quad);
    return sums;
}

INLINE int_part whole_sums(int kind, int_part first, int_part second) {
#if defined(PARTS_OF_AVX2) && !defined(__AVXVNNI__)
    __m256i whole = _mm256_madd_epi16((__m256i)first, _mm256_set1_epi16(1));
    if (kind == INT4) return (int_part)whole;
    return (int_part)_mm256_add_epi32(whole, _mm256_madd_epi16((__m256i)second, _mm256_set1_epi16(16)));
#else
    (void)kind, (void)second;
    return first;
#endif
}
FUNCTION_2(ints, whole_halves, ints, ints, whole_sums(INT4, a, b))
FUNCTION_2(ints, whole_bytes, ints, ints, whole_sums(INT8, a, b))
INLINE ints whole_of(int kind, Sums sums) {
    return kind == INT4 ? whole_halves(sums.first, sums.second) : whole_bytes(sums.first, sums.second);
}

// zero * owing, which both fit into 16 bits (see less_zeros in integers.h).
INLINE int_part times_owing(int_part zero, int_part owing) {
#ifdef PARTS_OF_AVX2
    return (int_part)_mm256_madd_epi16((__m256i)zero, (__m256i)owing);
#else
    return zero * owing;
#endif
}
FUNCTION_2(ints, owed, ints, ints, times_owing(a, b))

// One tile by R rows, at most 4.
INLINE void integers_narrow(int kind, int R, const Linear *l, int tile, const Activations *x, int row,
                            float *y, int64_t step) {
    int per_line = inputs_of_line(kind), count = lines(l), per_segment = x->segment / per_line,
        segments = x->segments;
    int summed = SUMMED_INPUTS / per_line;
    int64_t stride = x->stride;
    const char *w = tile_lines(l, tile);
    const int8_t *from = x->codes + (int64_t)row * stride;
    const int32_t *owing = x->owing + (int64_t)row * segments;
    const float *of_row = x->scales + (int64_t)row * segments;
    floats sums[4] = {splat(0), splat(0), splat(0), splat(0)};
    for (int s = 0, line = 0; line < count; s++) {
        int stop = line + per_segment < count ? line + per_segment : count, group = s * x->segment / l->group;
        ints zero = group_zero(l, tile, group);
        if (kind == INT8 && CODE_OFFSET) zero = subtract_ints(zero, splat_ints(CODE_OFFSET));
        ints e0 = owed(zero, splat_ints(owing[s])), e1 = e0, e2 = e0, e3 = e0;
        if (R > 1) e1 = owed(zero, splat_ints(owing[segments + s]));
        if (R > 2) e2 = owed(zero, splat_ints(owing[2 * segments + s]));
        if (R > 3) e3 = owed(zero, splat_ints(owing[3 * segments + s]));
        while (line < stop) {
            int until = line + summed < stop ? line + summed : stop;
            Sums none = {splat_ints(0), splat_ints(0)}, r0 = none, r1 = none, r2 = none, r3 = none;
            for (; line < until; line++, w += 64, from += per_line) {
                if (R == 1) __builtin_prefetch(w + 8192, 0, 2);  // past the page, where hardware stops
                Codes codes = codes_at(kind, w);
                r0 = add_line(kind, r0, codes, from);
                if (R > 1) r1 = add_line(kind, r1, codes, from + stride);
                if (R > 2) r2 = add_line(kind, r2, codes, from + 2 * stride);
                if (R > 3) r3 = add_line(kind, r3, codes, from + 3 * stride);
            }
            e0 = add_ints(e0, whole_of(kind, r0));
            if (R > 1) e1 = add_ints(e1, whole_of(kind, r1));
            if (R > 2) e2 = add_ints(e2, whole_of(kind, r2));
            if (R > 3) e3 = add_ints(e3, whole_of(kind, r3));
        }
        floats scale = group_scale(l, tile, group);
        sums[0] = fused(floats_of(e0), multiply(scale, splat(of_row[s])), sums[0]);
        if (R > 1) sums[1] = fused(floats_of(e1), multiply(scale, splat(of_row[segments + s])), sums[1]);
        if (R > 2) sums[2] = fused(floats_of(e2), multiply(scale, splat(of_row[2 * segments + s])), sums[2]);
        if (R > 3) sums[3] = fused(floats_of(e3), multiply(scale, splat(of_row[3 * segments + s])), sums[3]);
    }
    for (int r = 0; r < R; r++) store_all(FLOAT32, y + r * step, sums[r]);
}

// Rows as registers hold them: the halves of 8-bit codes need twice as many sums.
INLINE void integers_rows(int kind, int R, const Linear *l, int tile, const Activations *x, int row, float *y,
                          int64_t step) {
    int together = kind == INT8 && SPLIT_BYTES && R > 2 ? 2 : R;
    for (int r = 0; r < R; r += together)
        integers_narrow(kind, together, l, tile, x, row + r, y + r * step, step);
}
#endif
