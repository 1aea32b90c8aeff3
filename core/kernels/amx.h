/* What the AMX files share. Private to core. */
#ifndef FR_CORE_KERNELS_AMX_H
#define FR_CORE_KERNELS_AMX_H

#include <stdatomic.h>

#include "core/kernels/avx512.h"

/* The operand of LDTILECFG. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* Tile instructions are opaque to the compiler: memory is as the source says before and after them. */
INLINE void settle(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

/* Eight whole tiles: 16 rows of 64 bytes. */
static const tile_config whole_tiles = {
    .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

INLINE void load_config(const tile_config *config) {
    __asm__ volatile("" : : "m"(*config)); /* all of it: the intrinsic of some compilers mentions its first bytes only */
    _tile_loadconfig(config);
}

#endif
