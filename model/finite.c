#include "model/finite.h"

#include "core/dtype.h"
#include "core/threads.h"

void fr_finite_look(fr_finite *f, const float *x, int rows, int width, int layer, fr_finite_part part, int pos) {
    int begin, end;
    if (!f->on) return;
    fr_team_split(rows, 1, &begin, &end);
    for (int r = begin; r < end; r++) {
        if (fr_count_nonfinite(x + (size_t)r * (size_t)width, width) == 0) continue;
        unsigned long long place =
            (unsigned long long)(f->first_layer + layer) << 40 | (unsigned long long)part << 32 | (unsigned)(pos + r);
        unsigned long long least = atomic_load(&f->least);
        while (place < least && !atomic_compare_exchange_weak(&f->least, &least, place)) continue;
        return;
    }
}

fr_status fr_finite_tell(fr_finite *f, fr_error *error) {
    static const char *const parts[] = {"its input", "attention", "MLP", "the last norm"};
    unsigned long long least = atomic_exchange(&f->least, FR_FINITE_ALL);
    if (!f->on || least == FR_FINITE_ALL) return FR_OK;
    int layer = (int)(least >> 40), position = (int)(least & 0xffffffff);
    const char *part = parts[least >> 32 & 0xff];
    bool mtp = layer >= f->layers;
    fr_place place = fr_place_of("%slayer %d, %s", mtp ? "MTP module, " : "", layer, part);
    if (!mtp && layer == 0 && (least >> 32 & 0xff) == FR_FINITE_INPUT) place = fr_place_of("embedding");
    fr_fail_at(error, FR_ERROR_FORMAT, place.text, "values are not finite, first at position %d", position);
    return fr_hint(error, FR_ERROR_FORMAT,
                   "forerun check says which weights are damaged; where none is, the sums have overflowed");
}
