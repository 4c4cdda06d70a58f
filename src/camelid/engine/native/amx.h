#pragma once
// AMX, the part of some processors that multiplies small matrices: eight registers of up to 16 rows of up to
// 64 bytes.

#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vectors.h"

#if defined(__AMX_BF16__) && defined(__AVX512BF16__)
#define AMX
enum { AMX_ROWS = 16 };  // of a register

typedef struct {
    _Alignas(64) uint8_t palette;
    uint8_t start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} Shapes;

static void load_shapes(Shapes *shapes) {
    shapes->palette = 1;
    __asm__ volatile("ldtilecfg %0" ::"m"(*shapes));  // GCC 12's own _tile_loadconfig reads 8 of these 64
                                                      // bytes
}

// What was written before is in memory, from which registers are loaded afterwards: the compiler does not
// know that they are.
#define WRITTEN() __asm__ volatile("" ::: "memory")
#endif

// Whether there is AMX and Linux lets this process use it, which has to be asked for.
static int may_use_amx(void) {
#ifdef AMX
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18, YES = 1, NO = 2 };
    static atomic_int answer;
    if (!answer) answer = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 ? YES : NO;
    return answer == YES;
#else
    return 0;
#endif
}
