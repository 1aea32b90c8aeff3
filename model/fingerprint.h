/* Identifies a model by what it computes, so that a file with results of one model is not loaded into another. */
#ifndef FR_MODEL_FINGERPRINT_H
#define FR_MODEL_FINGERPRINT_H

#include "model/weights.h"

/* A hash of the network's configuration, of every tensor's name, dtype and shape, and of a few bytes each of up to 256
 * tensors: opening a large checkpoint for it takes milliseconds. Two checkpoints of one family differ in almost every
 * byte; one that was edited in a few places may go unseen. Independent of how the tensors are spread over files, and of
 * threads and instruction set. */
uint64_t fr_model_fingerprint(const fr_model *model);

#endif
