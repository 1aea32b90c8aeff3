/* Weights that are streamed: a model's routed experts in the cache of moe/experts.h. All else is copied into memory before. */
#ifndef FR_MODEL_STREAM_H
#define FR_MODEL_STREAM_H

#include "model/weights.h"

/* Makes the cache as the plan says, and tells the layers with experts of it. Weights are bound, all but the routed experts' to
 * memory; those that are not at the mapping of a file are an error of the program. */
fr_status fr_stream_open(fr_model *model, fr_reader_kind reader, fr_error *error);
/* To be called before weights are released. */
void fr_stream_close(fr_model *model);

enum { FR_STREAM_AT_ONCE = 8 }; /* experts that are asked for while the disk is measured */

typedef enum fr_stream_order { FR_STREAM_SCATTERED, FR_STREAM_IN_ORDER } fr_stream_order;

/* Bytes a second that the disk gives, FR_STREAM_AT_ONCE experts at a time, for about so many seconds. Scattered: far from each
 * other, as those that are chosen are, each once at most. Else by layers and ids, over and over. Weights are bound. */
fr_status fr_stream_measure(const fr_model *model, fr_reader_kind reader, fr_stream_order order, double seconds,
                            double *bytes_per_s, fr_error *error);

#endif
