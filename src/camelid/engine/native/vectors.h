#pragma once
// Sixteen floats at a time, for whatever processor the compiler knows.

#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { FLOAT32, BFLOAT16 };
enum { LANES = 16 };
#define INLINE static inline __attribute__((always_inline))

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves __attribute__((vector_size(2 * LANES)));
typedef uint8_t bytes __attribute__((vector_size(LANES)));

INLINE int itemsize(int kind) { return kind == FLOAT32 ? 4 : 2; }
INLINE int padded(int count) { return (count + 2 * LANES - 1) / (2 * LANES) * (2 * LANES); }
INLINE int round_up(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }
static const ints COUNT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
INLINE floats splat(float x) { return x - (floats){0}; }

// a * b + c in one rounding wherever the processor can, so that equal sums are equal bits in every loop they occur in.
INLINE floats fused(floats a, floats b, floats c) {
#ifdef __AVX512F__
    return (floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    return a * b + c;
#endif
}

INLINE floats load(int kind, const void *from) {  // 16 values
    if (kind == FLOAT32) {
        floats all;
        memcpy(&all, from, sizeof all);
        return all;
    }
    halves all;
    memcpy(&all, from, sizeof all);
#ifdef __AVX512F__
    return (floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)all), 16);
#else
    return (floats)(__builtin_convertvector(all, words) << 16);
#endif
}

INLINE float load_one(int kind, const void *from, int64_t index) {
    if (kind == FLOAT32) return ((const float *)from)[index];
    union { uint32_t bits; float value; } wide = {(uint32_t)((const uint16_t *)from)[index] << 16};
    return wide.value;
}

INLINE void store_all(int kind, void *to, floats from) {  // 16 values; bfloat16 rounds to nearest, ties to even
    if (kind == FLOAT32) {
        memcpy(to, &from, sizeof from);
        return;
    }
#ifdef __AVX512BF16__
    __m256bh all = _mm512_cvtneps_pbh((__m512)from);
#else
    words bits = (words)from;
    halves all = __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, halves);
#endif
    memcpy(to, &all, sizeof all);
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

#ifdef __clang__
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

INLINE ints widen(bytes all) {
#ifdef __AVX512F__
    return (ints)_mm512_cvtepu8_epi32((__m128i)all);
#else
    return __builtin_convertvector(all, ints);
#endif
}

INLINE floats widen_signed(const char *from) {  // 16 signed bytes
    bytes all;
    memcpy(&all, from, sizeof all);
#ifdef __AVX512F__
    return (floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32((__m128i)all));
#else
    typedef int8_t signed_bytes __attribute__((vector_size(LANES)));
    return __builtin_convertvector(__builtin_convertvector((signed_bytes)all, ints), floats);
#endif
}

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
            zipped[2 * i] = SHUFFLE(ints, v[i], v[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            zipped[2 * i + 1] = SHUFFLE(ints, v[i], v[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
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

INLINE float largest(floats all) {
#ifdef __AVX512F__
    return _mm512_reduce_max_ps((__m512)all);
#else
    float most = all[0];
    for (int i = 1; i < LANES; i++) most = all[i] > most ? all[i] : most;
    return most;
#endif
}

// Absolute values as integers, which are in the same order, with NaN above all numbers: among them it is the largest.
INLINE ints size_bits(floats all) { return (ints)all & 0x7fffffff; }
INLINE ints larger(ints a, ints b) {
    ints mask = a > b;
    return (a & mask) | (b & ~mask);
}
INLINE float largest_size(ints bits) {
    int most = bits[0];
#ifdef __AVX512F__
    most = _mm512_reduce_max_epi32((__m512i)bits);
#else
    for (int i = 1; i < LANES; i++) most = bits[i] > most ? bits[i] : most;
#endif
    float size;
    memcpy(&size, &most, sizeof size);
    return size;
}

INLINE int whole_total(ints all) {
#ifdef __AVX512F__
    return _mm512_reduce_add_epi32((__m512i)all);
#else
    int sum = 0;
    for (int i = 0; i < LANES; i++) sum += all[i];
    return sum;
#endif
}

INLINE ints nearest(floats all) {  // ties to even
#ifdef __AVX512F__
    return (ints)_mm512_cvtps_epi32((__m512)all);
#else
    floats shifted = all + 12582912.0f;  // 1.5 * 2^23, where floats are whole numbers
    return __builtin_convertvector(shifted - 12582912.0f, ints);
#endif
}

INLINE void narrow(int8_t *to, ints all) {  // 16 integers that fit into a byte
    typedef int8_t signed_bytes __attribute__((vector_size(LANES)));
    signed_bytes few = __builtin_convertvector(all, signed_bytes);
    memcpy(to, &few, sizeof few);
}

INLINE floats choose(ints mask, floats a, floats b) { return (floats)(((ints)a & mask) | ((ints)b & ~mask)); }

// exp by 2^n * p(x - n ln 2), |x - n ln 2| <= ln 2 / 2, p of degree 6 (relative error about 1e-7); 0 below -87, where
// results would be denormal, which takes a processor a hundred times as long.
INLINE floats exponential(floats x) {
#ifdef __AVX512F__
    __mmask16 normal = _mm512_cmp_ps_mask((__m512)x, _mm512_set1_ps(-87), _CMP_NLT_UQ);  // a NaN stays one
    __m512 clamped = _mm512_max_ps(_mm512_set1_ps(-87), (__m512)x);
    floats n = (floats)_mm512_roundscale_ps(_mm512_mul_ps(clamped, _mm512_set1_ps(1.44269504f)), 0);
    floats r = fused(n, splat(-0.693359375f), (floats)clamped);
    r = fused(n, splat(2.12194440e-4f), r);
#else
    floats low = choose(x < -87.0f, splat(-87.0f), x), clamped = choose(low > 88.0f, splat(88.0f), low);
    ints whole = __builtin_convertvector(clamped * 1.44269504f + choose(clamped < 0.0f, splat(-0.5f), splat(0.5f)), ints);
    floats n = __builtin_convertvector(whole, floats), r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
#endif
    floats p = fused(splat(1.0f / 720), r, splat(1.0f / 120));
    p = fused(p, r, splat(1.0f / 24)), p = fused(p, r, splat(1.0f / 6)), p = fused(p, r, splat(0.5f));
    p = fused(p, r, splat(1)), p = fused(p, r, splat(1));
#ifdef __AVX512F__
    return (floats)_mm512_maskz_scalef_ps(normal, (__m512)p, (__m512)n);
#else
    return choose(x < -87.0f, splat(0), p * (floats)((whole + 127) << 23));
#endif
}
