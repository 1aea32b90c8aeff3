/* E4M3 codes to BF16 with VBMI byte tables, for the files that are compiled for them. Private to core. */
#ifndef FR_CORE_KERNELS_E4M3_H
#define FR_CORE_KERNELS_E4M3_H

#include <immintrin.h>

#include "core/kernels_few.h"

/* High and low bytes of the BF16 of each magnitude (core/kernels_avx512_bf16.c). */
extern const uint8_t fr_e4m3_high[128], fr_e4m3_low[128];

/* 64 codes as two vectors of BF16: of each 16 codes, `a` gets the first 8 and `b` the others. */
INLINE void decode_dealt(__m512i codes, __m512i *a, __m512i *b) {
    __m512i high =
        _mm512_permutex2var_epi8(_mm512_loadu_si512(fr_e4m3_high), codes, _mm512_loadu_si512(fr_e4m3_high + 64));
    __m512i low =
        _mm512_permutex2var_epi8(_mm512_loadu_si512(fr_e4m3_low), codes, _mm512_loadu_si512(fr_e4m3_low + 64));
    high = _mm512_ternarylogic_epi64(high, codes, _mm512_set1_epi8((char)0x80), 0xf8); /* high | (codes & sign) */
    *a = _mm512_unpacklo_epi8(low, high);
    *b = _mm512_unpackhi_epi8(low, high);
}

#endif
