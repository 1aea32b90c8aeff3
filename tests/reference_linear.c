#include "reference_linear.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

double reference_e4m3(uint8_t code) {
    int exponent = code >> 3 & 15, mantissa = code & 7;
    if (exponent == 15 && mantissa == 7) return NAN;
    double value = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    return code & 0x80 ? -value : value;
}

uint8_t reference_to_e4m3(double value) {
    int best = 0;
    if (isnan(value)) return signbit(value) ? 0xff : 0x7f;
    for (int code = 1; code < 0x7f; code++) {
        double distance = fabs(fabs(value) - reference_e4m3((uint8_t)code));
        double least = fabs(fabs(value) - reference_e4m3((uint8_t)best));
        if (distance < least || (distance == least && code % 2 == 0)) best = code;
    }
    if (isinf(value)) best = 0x7e;
    return (uint8_t)(signbit(value) ? best | 0x80 : best);
}

double reference_weight(const fr_linear *w, int o, int i) {
    const char *at = (const char *)w->w + (o * w->stride + i) * (int64_t)fr_dtype_size(w->dtype);
    if (w->dtype == FR_F8_E4M3) return reference_e4m3((uint8_t)*at) * (double)w->scale[o / 128 * w->scale_stride + i / 128];
    if (w->dtype == FR_BF16) {
        uint16_t half;
        memcpy(&half, at, 2);
        int exponent = half >> 7 & 255, mantissa = half & 127;
        double value = exponent ? ldexp(128 + mantissa, exponent - 134) : ldexp(mantissa, -133);
        return half >> 15 ? -value : value;
    }
    float value;
    memcpy(&value, at, 4);
    return (double)value;
}

void reference_quantize(double *x, int width, bool ue8m0) {
    for (int begin = 0; begin < width; begin += 128) {
        int end = begin + 128 < width ? begin + 128 : width;
        float max = 1e-4f;
        for (int i = begin; i < end; i++) max = fmaxf(max, fabsf((float)x[i]));
        float s = max / 448.0f;
        if (ue8m0) {
            int exponent;
            float fraction = frexpf(s, &exponent);
            s = ldexpf(1.0f, fraction == 0.5f ? exponent - 1 : exponent);
        }
        for (int i = begin; i < end; i++) x[i] = reference_e4m3(reference_to_e4m3((double)((float)x[i] / s))) * (double)s;
    }
}

void reference_linear(const fr_linear *w, const float *x, int rows, bool quantized, bool ue8m0, double *y, double *magnitude) {
    double *row = malloc((size_t)(rows * w->in) * sizeof *row), *weight = malloc((size_t)w->in * sizeof *weight);
    for (int r = 0; r < rows; r++) {
        for (int i = 0; i < w->in; i++) row[r * w->in + i] = (double)x[r * w->in + i];
        if (quantized && w->dtype == FR_F8_E4M3) reference_quantize(row + r * w->in, w->in, ue8m0);
    }
    for (int o = 0; o < w->out; o++) {
        for (int i = 0; i < w->in; i++) weight[i] = reference_weight(w, o, i);
        for (int r = 0; r < rows; r++) {
            double sum = 0, absolute = 0;
            for (int i = 0; i < w->in; i++) {
                double term = weight[i] * row[r * w->in + i];
                sum += term;
                absolute += fabs(term);
            }
            y[r * w->out + o] = sum;
            magnitude[r * w->out + o] = absolute;
        }
    }
    free(row);
    free(weight);
}
