/* A checkpoint directory as a network: its config, its files, and what the files say of the config. Whoever works on a checkpoint
 * begins here, so that all agree on what is in it; what does not fit together and can be lived with becomes a notice. */
#ifndef FR_MODEL_SOURCE_H
#define FR_MODEL_SOURCE_H

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/config.h"

/* The first MTP module, the one that is run, as the files have it. */
typedef struct fr_mtp_files {
    bool present;                    /* whole */
    bool left_out;                   /* there, but the config announces none */
    bool own_embedding, own_lm_head; /* stored for the module, and other than the main model's */
    char absent[256];                /* why there is none to run; "" if there is */
} fr_mtp_files;

/* Opens the files of the config that was read. Layers whose indexer the config denies, or the other way round, are an error;
 * so are files of another config. */
fr_status fr_source_open(const char *dir, const fr_config *config, fr_checkpoint **out, fr_notices *notices, fr_error *error);
/* The same for a check: what is wrong is handed to `report`. config: NULL when it cannot be used. */
fr_status fr_source_survey(const char *dir, const fr_config *config, fr_problem_fn report, void *user, fr_checkpoint **out,
                           fr_notices *notices, fr_error *error);
/* Whether the files are not those of the config, by numbers alone: its experts have a million tensors or more, which is at least
 * twice of what there is. Then no names of tensors are made, one by one. */
bool fr_source_is_another(const fr_config *config, const fr_checkpoint *checkpoint, uint64_t *experts);
/* Completes the config by the files: num_nextn_predict_layers becomes the number of modules of which there are tensors, and
 * mtp_dense what the first of them is. Tells of the MTP module, and notices where files and config disagree. */
void fr_source_settle(fr_config *config, const fr_checkpoint *checkpoint, fr_mtp_files *mtp, fr_notices *notices);
/* Settling compares what may repeat another tensor in a few places, so that little is read. This compares all of it where that is
 * up to 64 MiB, and many places of what is larger (1.7 GiB each in DeepSeek-V3), with a notice: drafts alone depend on it, and no
 * text does. Returns whether something turned out to be the module's own. */
bool fr_source_compare(const fr_config *config, const fr_checkpoint *checkpoint, fr_mtp_files *mtp, fr_notices *notices);
/* Compares all, and notices where opening takes for the same what is not. */
void fr_source_compare_all(const fr_config *config, const fr_checkpoint *checkpoint, fr_mtp_files *mtp, fr_notices *notices);

#endif
