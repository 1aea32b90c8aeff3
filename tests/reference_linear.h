/* A naive linear layer: every weight decoded by the definition of its format, sums in double. */
#ifndef FR_TESTS_REFERENCE_LINEAR_H
#define FR_TESTS_REFERENCE_LINEAR_H

#include "core/linear/linear.h"

double reference_e4m3(uint8_t code);
/* The nearest code by search over all of them, ties to the even one, saturating. */
uint8_t reference_to_e4m3(double value);
/* Weight [o, i], scale included. */
double reference_weight(const fr_linear *w, int o, int i);
/* Quantizes a row in place as dynamic activation quantization does: x becomes its dequantized self. */
void reference_quantize(double *x, int width, bool ue8m0);
/* y [rows, out] = W x; *magnitude [rows, out] the sum of |w x|, against which errors are measured. */
void reference_linear(const fr_linear *w, const float *x, int rows, bool quantized, bool ue8m0, double *y, double *magnitude);

#endif
