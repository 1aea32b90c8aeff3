/* E4M3 codes to BF16 with VBMI byte tables and GFNI bit matrices, for the files that are compiled for them. Private to core. */
#ifndef FR_CORE_KERNELS_E4M3_H
#define FR_CORE_KERNELS_E4M3_H

#include <immintrin.h>

#include "core/kernels/decode.h"

/* High and low bytes of the BF16 of each magnitude (core/kernels/avx512_bf16.c). */
extern const uint8_t fr_e4m3_high[128], fr_e4m3_low[128];

/* 64 codes as two vectors of BF16. They are dealt: of each 16 codes, `a` gets the first 8 and `b` the others. */
INLINE void convert_dealt(__m512i codes, __m512i *a, __m512i *b) {
    __m512i high = _mm512_permutex2var_epi8(_mm512_loadu_si512(fr_e4m3_high), codes, _mm512_loadu_si512(fr_e4m3_high + 64));
    __m512i low = _mm512_permutex2var_epi8(_mm512_loadu_si512(fr_e4m3_low), codes, _mm512_loadu_si512(fr_e4m3_low + 64));
    high = _mm512_ternarylogic_epi64(high, codes, _mm512_set1_epi8((char)0x80), 0xf8); /* high | (codes & sign) */
    *a = _mm512_unpacklo_epi8(low, high);
    *b = _mm512_unpackhi_epi8(low, high);
}

/* 128 codes as four vectors of BF16, dealt alike. The bits of a normal number's BF16 are sums modulo 2 of those of its code: its
 * exponent e, raised by the difference of the biases, 120, is e3, four times not e3, e2, e1, e0. So two affine maps make both
 * bytes. Zeros, subnormals and NaNs, rare all of them, go by the tables. */
INLINE void convert_dealt_128(__m512i x, __m512i y, __m512i *out) {
    const __m512i high = _mm512_set1_epi64(0x1020404040404080), low = _mm512_set1_epi64(0x01020408);
    /* Without the sign, from 2^-6 on, twice: 0 to 0xec for normal numbers, 0xee for NaN, 0xf0 to 0xfe for those below. */
    const __m512i sixteen = _mm512_set1_epi8(16);
    __m512i a = _mm512_add_epi8(x, _mm512_sub_epi8(x, sixteen)), b = _mm512_add_epi8(y, _mm512_sub_epi8(y, sixteen));
    if (__builtin_expect(_mm512_cmpge_epu8_mask(_mm512_max_epu8(a, b), _mm512_set1_epi8((char)0xee)) != 0, 0)) {
        convert_dealt(x, &out[0], &out[1]);
        convert_dealt(y, &out[2], &out[3]);
        return;
    }
    __m512i xh = _mm512_gf2p8affine_epi64_epi8(x, high, 0x3c), xl = _mm512_gf2p8affine_epi64_epi8(x, low, 0);
    __m512i yh = _mm512_gf2p8affine_epi64_epi8(y, high, 0x3c), yl = _mm512_gf2p8affine_epi64_epi8(y, low, 0);
    out[0] = _mm512_unpacklo_epi8(xl, xh);
    out[1] = _mm512_unpackhi_epi8(xl, xh);
    out[2] = _mm512_unpacklo_epi8(yl, yh);
    out[3] = _mm512_unpackhi_epi8(yl, yh);
}
#endif
