#pragma once
// Products with weights in float32 or bfloat16, [outer, inner], as they lie in the model.
//
// A sum over inputs is the same sequence of operations however many rows and outputs are computed at once: a
// row's result does not depend on what else is in the batch, bit for bit.

#ifdef __AVX512F__
#include "dense_wide.h"
#else
#include "dense_narrow.h"
#endif
