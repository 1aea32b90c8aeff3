/* The drafters. A new one is a file and a row here, with the row's declaration. */
#include "mtp/drafters/drafter.h"

extern const fr_drafter_type fr_mtp_drafter_type, fr_ngram_drafter_type;

static const fr_drafter_type *const types[] = {
    [FR_DRAFTER_MTP] = &fr_mtp_drafter_type,
    [FR_DRAFTER_NGRAM] = &fr_ngram_drafter_type,
};
_Static_assert(sizeof types / sizeof *types == FR_DRAFTER_COUNT, "each drafter of forerun.h has its row, under its constant");

const fr_drafter_type *fr_drafter_type_of(int kind) {
    return kind >= 0 && (size_t)kind < sizeof types / sizeof *types ? types[kind] : NULL;
}
