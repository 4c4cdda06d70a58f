#pragma once
// Loads, stores and reductions of sixteen numbers, for each processor that the compiler knows.

#include "parts.h"

enum { FLOAT32, BFLOAT16 };

INLINE int itemsize(int kind) { return kind == FLOAT32 ? 4 : 2; }
INLINE int padded(int count) { return (count + 2 * LANES - 1) / (2 * LANES) * (2 * LANES); }
INLINE int round_up(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }

// One part's numbers from memory.
INLINE float_part load_part(int kind, const void *from) {
    if (kind == FLOAT32) {
        float_part all;
        memcpy(&all, from, sizeof all);
        return all;
    }
#if defined(__AVX512F__)
    halves all;
    memcpy(&all, from, sizeof all);
    return (float_part)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)all), 16);
#elif defined(PARTS_OF_AVX2)
    return (float_part)_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(from)), 16);
#elif defined(__ARM_NEON)
    return (float_part)vshlq_n_u32(vmovl_u16(vreinterpret_u16_u8(vld1_u8(from))), 16);
#else
    halves all;
    memcpy(&all, from, sizeof all);
    return (float_part)(__builtin_convertvector(all, uint_part) << 16);
#endif
}

// Stores one part; bfloat16 rounds to nearest, ties to even.
INLINE void store_part(int kind, void *to, float_part from) {
    if (kind == FLOAT32) {
        memcpy(to, &from, sizeof from);
        return;
    }
#ifdef __AVX512BF16__
    __m256bh all = _mm512_cvtneps_pbh((__m512)from);
#else
    uint_part bits = (uint_part)from, rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    uint_part nan = (uint_part)(from != from);  // rounding could carry a NaN into another number
    rounded = (rounded & ~nan) | ((bits >> 16 | 0x40) & nan);
#ifdef PARTS_OF_AVX2
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)rounded, (__m256i)rounded), 0x08);
    __m128i all = _mm256_castsi256_si128(packed);
#else
    halves all = __builtin_convertvector(rounded, halves);
#endif
#endif
    memcpy(to, &all, sizeof all);
}

#ifdef __AVX512F__
INLINE floats load(int kind, const void *from) { return load_part(kind, from); }
INLINE void store_all(int kind, void *to, floats from) { store_part(kind, to, from); }
INLINE ints load_ints(const void *from) { return (ints)load_part(FLOAT32, from); }
#else
INLINE floats load(int kind, const void *from) {
    floats all;
    EACH_PART all.part[i] = load_part(kind, (const char *)from + i * PART * itemsize(kind));
    return all;
}
INLINE void store_all(int kind, void *to, floats from) {
    EACH_PART store_part(kind, (char *)to + i * PART * itemsize(kind), from.part[i]);
}
INLINE ints load_ints(const void *from) {
    ints all;
    EACH_PART all.part[i] = (int_part)load_part(FLOAT32, (const char *)from + 4 * i * PART);
    return all;
}
#endif

INLINE float load_one(int kind, const void *from, int64_t index) {
    if (kind == FLOAT32) return ((const float *)from)[index];
    union {
        uint32_t bits;
        float value;
    } wide = {(uint32_t)((const uint16_t *)from)[index] << 16};
    return wide.value;
}

static void store(int kind, void *to, const float *from, int count) {
    for (; count >= LANES; count -= LANES, from += LANES, to = (char *)to + LANES * itemsize(kind))
        store_all(kind, to, load(FLOAT32, from));
    if (count == 0) return;
    char all[4 * LANES];
    float rest[LANES] = {0};
    memcpy(rest, from, 4 * count);
    store_all(kind, all, load(FLOAT32, rest));
    memcpy(to, all, count * itemsize(kind));
}

// Floats that are rounded to `kind`, as products in float32 take the numbers of a bfloat16 model.
static void store_rounded(int kind, float *to, const float *from, int count) {
    char few[4 * LANES];
    for (int i = 0; i < count; i += LANES) {
        int size = count - i < LANES ? count - i : LANES;
        store(kind, few, from + i, size);
        if (size == LANES) store_all(FLOAT32, to + i, load(kind, few));
        else
            for (int j = 0; j < size; j++) to[i + j] = load_one(kind, few, j);
    }
}

// Sixteen bytes as integers, without a sign or with one.
INLINE ints widen(const void *from) {
#if defined(__AVX512F__)
    return (ints)_mm512_cvtepu8_epi32(_mm_loadu_si128(from));
#elif defined(PARTS_OF_AVX2)
    __m128i all = _mm_loadu_si128(from);
    return (ints){
        {(int_part)_mm256_cvtepu8_epi32(all), (int_part)_mm256_cvtepu8_epi32(_mm_srli_si128(all, 8))}};
#else
    const uint8_t *few = from;
    ints all;
    EACH_PART all.part[i] = (int_part){few[4 * i], few[4 * i + 1], few[4 * i + 2], few[4 * i + 3]};
    return all;
#endif
}

INLINE floats widen_signed(const char *from) {
#if defined(__AVX512F__)
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)from)));
#elif defined(PARTS_OF_AVX2)
    __m128i all = _mm_loadu_si128((const void *)from);
    return floats_of((ints){
        {(int_part)_mm256_cvtepi8_epi32(all), (int_part)_mm256_cvtepi8_epi32(_mm_srli_si128(all, 8))}});
#else
    const int8_t *few = (const int8_t *)from;
    ints all;
    EACH_PART all.part[i] = (int_part){few[4 * i], few[4 * i + 1], few[4 * i + 2], few[4 * i + 3]};
    return floats_of(all);
#endif
}

// The sum of a part, in an order that is always the same.
INLINE float part_total(float_part all) {
#ifdef PARTS_OF_AVX2
    __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)all), _mm256_extractf128_ps((__m256)all, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
#else
    float sums[PART];
    memcpy(sums, &all, sizeof sums);
#pragma GCC unroll 4
    for (int half = PART / 2; half; half /= 2)
#pragma GCC unroll 8
        for (int i = 0; i < half; i++) sums[i] += sums[i + half];
    return sums[0];
#endif
}

#ifdef __AVX512F__
#ifdef __clang__
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

// Sums over 8, 4, 2 and 1 lanes: each folds two vectors into one that holds the sums of both.
INLINE floats fold8(floats a, floats b) {
    return SHUFFLE(ints, a, b, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
           SHUFFLE(ints, a, b, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
}
INLINE floats fold4(floats a, floats b) {
    return SHUFFLE(ints, a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           SHUFFLE(ints, a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
}
INLINE floats fold2(floats a, floats b) {
    return SHUFFLE(ints, a, b, 0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29) +
           SHUFFLE(ints, a, b, 2, 3, 6, 7, 10, 11, 14, 15, 18, 19, 22, 23, 26, 27, 30, 31);
}
INLINE floats fold1(floats a, floats b) {
    return SHUFFLE(ints, a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           SHUFFLE(ints, a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
}

// v[i][j] and v[j][i] change places: four times the upper eight vectors are zipped with the lower eight.
INLINE void transpose(floats *v) {
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++) {
        floats zipped[LANES];
#pragma GCC unroll 8
        for (int i = 0; i < LANES / 2; i++) {
            zipped[2 * i] =
                SHUFFLE(ints, v[i], v[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            zipped[2 * i + 1] =
                SHUFFLE(ints, v[i], v[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(v, zipped, sizeof zipped);
    }
}

INLINE float total(floats all) {
    all = fold8(all, all), all = fold4(all, all), all = fold2(all, all);
    return all[0] + all[1];
}

// Lane i of the result is the sum over v[i], for a power of two of vectors up to 16.
INLINE floats totals(const floats *v, int count) {
    floats a[16];
    if (count == 1) return splat(total(v[0]));
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) a[i] = v[i % count];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a[i] = fold8(a[2 * i], a[2 * i + 1]);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) a[i] = fold4(a[2 * i], a[2 * i + 1]);
    a[0] = fold2(a[0], a[1]), a[1] = fold2(a[2], a[3]);
    return fold1(a[0], a[1]);
}
#else
INLINE float total(floats all) {
    float_part sum = all.part[0];
#pragma GCC unroll 4
    for (int i = 1; i < PARTS; i++) sum += all.part[i];
    return part_total(sum);
}
#endif

INLINE float largest(floats all) {
#ifdef __AVX512F__
    return _mm512_reduce_max_ps((__m512)all);
#else
    float_part most = all.part[0];
    EACH_PART most = blend(all.part[i] > most, all.part[i], most);
    float each[PART];
    memcpy(each, &most, sizeof each);
    for (int i = 1; i < PART; i++) each[0] = each[i] > each[0] ? each[i] : each[0];
    return each[0];
#endif
}

// Absolute values as integers, which are in the same order, with NaN above all numbers: among them it is the
// largest.
FUNCTION_1(ints, size_bits, floats, (int_part)a & 0x7fffffff)

INLINE float largest_size(ints bits) {
#ifdef __AVX512F__
    int most = _mm512_reduce_max_epi32((__m512i)bits);
#else
    int_part parts = bits.part[0];
    EACH_PART parts = (parts & (parts > bits.part[i])) | (bits.part[i] & ~(parts > bits.part[i]));
    int each[PART], most;
    memcpy(each, &parts, sizeof each);
    most = each[0];
    for (int i = 1; i < PART; i++) most = each[i] > most ? each[i] : most;
#endif
    float size;
    memcpy(&size, &most, sizeof size);
    return size;
}

INLINE int whole_total(ints all) {
#ifdef __AVX512F__
    return _mm512_reduce_add_epi32((__m512i)all);
#else
    int_part sums = all.part[0];
#pragma GCC unroll 4
    for (int i = 1; i < PARTS; i++) sums += all.part[i];
    int each[PART];
    memcpy(each, &sums, sizeof each);
    for (int i = 1; i < PART; i++) each[0] += each[i];
    return each[0];
#endif
}

INLINE int_part nearest_part(float_part all) {  // ties to even
#if defined(__AVX512F__)
    return (int_part)_mm512_cvtps_epi32((__m512)all);
#elif defined(PARTS_OF_AVX2)
    return (int_part)_mm256_cvtps_epi32((__m256)all);
#elif defined(__ARM_NEON)
    return vcvtnq_s32_f32(all);
#else
    float_part shifted = all + 12582912.0f;  // 1.5 * 2^23, where floats are whole numbers
    return __builtin_convertvector(shifted - 12582912.0f, int_part);
#endif
}
FUNCTION_1(ints, nearest, floats, nearest_part(a))

INLINE void narrow(int8_t *to, ints all) {  // 16 integers that fit into a byte
#if defined(__AVX512F__)
    typedef int8_t signed_bytes __attribute__((vector_size(LANES)));
    signed_bytes few = __builtin_convertvector(all, signed_bytes);
    memcpy(to, &few, sizeof few);
#elif defined(PARTS_OF_AVX2)
    __m256i pairs =
        _mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)all.part[0], (__m256i)all.part[1]), 0xd8);
    __m128i few = _mm_packs_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    memcpy(to, &few, sizeof few);
#else
    int32_t each[LANES];
    memcpy(each, &all, sizeof each);
    for (int i = 0; i < LANES; i++) to[i] = (int8_t)each[i];
#endif
}

// exp by 2^n * p(x - n ln 2), |x - n ln 2| <= ln 2 / 2, p of degree 6 (relative error about 1e-7); 0 below
// -87, where results would be denormal, which takes a processor a hundred times as long.
INLINE float_part exponential_part(float_part x) {
#ifdef __AVX512F__
    __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87), _CMP_NLT_UQ);  // a NaN stays one
    __m512 clamped = _mm512_max_ps(_mm512_set1_ps(-87), (__m512)x);
    float_part n = (float_part)_mm512_roundscale_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(1.44269504f)), 0);
    float_part r = fused_part(n, splat_part(-0.693359375f), (float_part)clamped);
#else
    float_part low = blend(x < -87.0f, splat_part(-87.0f), x),
               clamped = blend(low > 88.0f, splat_part(88.0f), low);
    int_part whole = nearest_part(clamped * 1.44269504f);
    float_part n = to_float(whole), r = fused_part(n, splat_part(-0.693359375f), clamped);
#endif
    r = fused_part(n, splat_part(2.12194440e-4f), r);
    float_part p = fused_part(splat_part(1.0f / 720), r, splat_part(1.0f / 120));
    p = fused_part(p, r, splat_part(1.0f / 24)), p = fused_part(p, r, splat_part(1.0f / 6));
    p = fused_part(p, r, splat_part(0.5f)), p = fused_part(p, r, splat_part(1)),
    p = fused_part(p, r, splat_part(1));
#ifdef __AVX512F__
    return (float_part)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)n);
#else
    return blend(x < -87.0f, splat_part(0), p * (float_part)((whole + 127) << 23));
#endif
}
FUNCTION_1(floats, exponential, floats, exponential_part(a))
