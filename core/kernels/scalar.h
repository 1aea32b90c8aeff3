/* Kernels in plain C that other instruction sets take into their tables. Private to core/kernels. */
#ifndef FR_CORE_KERNELS_SCALAR_H
#define FR_CORE_KERNELS_SCALAR_H

#include "core/kernels/kernels.h"

void fr_scalar_bf16_to_f32(float *y, const uint16_t *x, int n);
void fr_scalar_f32_to_bf16(uint16_t *y, const float *x, int n);
void fr_scalar_e4m3_to_bf16(uint16_t *y, const uint8_t *x, int n);
float fr_scalar_max(const float *x, int n);
float fr_scalar_exp_sub(float *x, float max, int n);
void fr_scalar_silu_mul(float *y, const float *gate, const float *up, int n);
float fr_scalar_quantize_block(uint16_t *q, const float *x, int n, bool ue8m0);

#endif
