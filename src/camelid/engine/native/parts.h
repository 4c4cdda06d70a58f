#pragma once
// Sixteen numbers of 32 bits as one value, and arithmetic on them.
//
// With AVX-512 they are one register. Elsewhere they are parts that fill a register each: two of 8 numbers
// with AVX, four of 4 otherwise. Compilers keep parts of a struct in registers; a vector wider than a
// register they would keep in memory.

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif
#ifdef __ARM_NEON
#include <arm_neon.h>
#endif

enum { LANES = 16 };
#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
enum { PART = 16 };
#elif defined(__AVX2__)
#define PARTS_OF_AVX2
enum { PART = 8 };
#else
enum { PART = 4 };
#endif
enum { PARTS = LANES / PART };

typedef float float_part __attribute__((vector_size(4 * PART)));
typedef int32_t int_part __attribute__((vector_size(4 * PART)));
typedef uint32_t uint_part __attribute__((vector_size(4 * PART)));
typedef uint16_t halves __attribute__((vector_size(2 * PART)));  // as many as a part has numbers
typedef uint8_t bytes __attribute__((vector_size(LANES)));

// FUNCTION_n defines a function of n arguments, calculated part by part from their parts a, b and c.
#ifdef __AVX512F__
typedef float_part floats;
typedef int_part ints;
#define FUNCTION_1(type, name, A, expression) \
    INLINE type name(A a) { return expression; }
#define FUNCTION_2(type, name, A, B, expression) \
    INLINE type name(A a, B b) { return expression; }
#define FUNCTION_3(type, name, A, B, C, expression) \
    INLINE type name(A a, B b, C c) { return expression; }
#else
typedef struct {
    float_part part[PARTS];
} floats;
typedef struct {
    int_part part[PARTS];
} ints;
#define EACH_PART _Pragma("GCC unroll 4") for (int i = 0; i < PARTS; i++)
#define FUNCTION_1(type, name, A, expression) \
    INLINE type name(A whole_a) { \
        type all; \
        EACH_PART { \
            __typeof__(whole_a.part[0]) a = whole_a.part[i]; \
            all.part[i] = expression; \
        } \
        return all; \
    }
#define FUNCTION_2(type, name, A, B, expression) \
    INLINE type name(A whole_a, B whole_b) { \
        type all; \
        EACH_PART { \
            __typeof__(whole_a.part[0]) a = whole_a.part[i]; \
            __typeof__(whole_b.part[0]) b = whole_b.part[i]; \
            all.part[i] = expression; \
        } \
        return all; \
    }
#define FUNCTION_3(type, name, A, B, C, expression) \
    INLINE type name(A whole_a, B whole_b, C whole_c) { \
        type all; \
        EACH_PART { \
            __typeof__(whole_a.part[0]) a = whole_a.part[i]; \
            __typeof__(whole_b.part[0]) b = whole_b.part[i]; \
            __typeof__(whole_c.part[0]) c = whole_c.part[i]; \
            all.part[i] = expression; \
        } \
        return all; \
    }
#endif

// a * b + c in one rounding wherever the processor can, so that equal sums are equal bits in every loop they
// occur in.
INLINE float_part fused_part(float_part a, float_part b, float_part c) {
#if defined(__AVX512F__)
    return (float_part)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
    return (float_part)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_FMA)
    return vfmaq_f32(c, a, b);
#else
    return a * b + c;
#endif
}

INLINE float_part to_float(int_part all) { return __builtin_convertvector(all, float_part); }
INLINE float_part float_bits(int_part all) { return (float_part)all; }
INLINE float_part blend(int_part mask, float_part a, float_part b) {
#ifdef PARTS_OF_AVX2
    return (float_part)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
#else
    return (float_part)(((int_part)a & mask) | ((int_part)b & ~mask));
#endif
}
INLINE float_part splat_part(float x) { return x - (float_part){0}; }
INLINE float_part splat_bits_part(float x) {  // keeps all bits, also those of a signalling NaN
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (float_part)(bits - (int_part){0});
}
INLINE int_part splat_int(int32_t x) { return x - (int_part){0}; }

FUNCTION_3(floats, fused, floats, floats, floats, fused_part(a, b, c))
FUNCTION_2(floats, add, floats, floats, a + b)
FUNCTION_2(floats, subtract, floats, floats, a - b)
FUNCTION_2(floats, multiply, floats, floats, a *b)
FUNCTION_2(floats, divide, floats, floats, a / b)
FUNCTION_1(floats, negative, floats, -a)
FUNCTION_2(ints, above, floats, floats, a > b)  // masks: all bits set where it is true
FUNCTION_2(ints, equal, floats, floats, a == b)
FUNCTION_3(floats, choose, ints, floats, floats, blend(a, b, c))
FUNCTION_1(floats, floats_of, ints, to_float(a))
FUNCTION_2(ints, add_ints, ints, ints, a + b)
FUNCTION_2(ints, subtract_ints, ints, ints, a - b)
FUNCTION_2(ints, larger, ints, ints, (a & (a > b)) | (b & ~(a > b)))
FUNCTION_2(ints, below, ints, ints, a < b)
FUNCTION_2(ints, both, ints, ints, a &b)

#ifdef __AVX512F__
INLINE floats splat(float x) { return splat_part(x); }
INLINE floats splat_bits(float x) { return splat_bits_part(x); }
INLINE ints splat_ints(int32_t x) { return splat_int(x); }
INLINE ints shifted(ints all, int by, int mask) { return all >> by & mask; }
#else
INLINE floats splat(float x) {
    floats all;
    EACH_PART all.part[i] = splat_part(x);
    return all;
}
INLINE floats splat_bits(float x) {
    floats all;
    EACH_PART all.part[i] = splat_bits_part(x);
    return all;
}
INLINE ints splat_ints(int32_t x) {
    ints all;
    EACH_PART all.part[i] = splat_int(x);
    return all;
}
INLINE ints shifted(ints all, int by, int mask) {
    EACH_PART all.part[i] = all.part[i] >> by & mask;
    return all;
}
#endif
