/* The words of options and documents for the enums of the public headers: one table for each, which the command line and the
 * studies both read. */
#ifndef FR_STUDY_WORDS_H
#define FR_STUDY_WORDS_H

#include "forerun_study.h"

/* The word of an enum's value, static; NULL for a value that there is none of, so that words can be listed from 0 on. */
const char *fr_act_word(int act);
const char *fr_draft_head_word(int head);
const char *fr_drafter_word(int drafter);
const char *fr_drafting_word(int drafting);
const char *fr_hidden_state_word(int state);
const char *fr_isa_word(int isa);
const char *fr_kv_word(int kv);
const char *fr_precision_word(int precision);
const char *fr_recycle_word(int recycle);
const char *fr_think_word(int think);
const char *fr_verify_word(int rule);
const char *fr_weights_word(int weights);
const char *fr_reader_word(int kind);

/* An arm's name: its drafting, and after a colon the most drafts a cycle where it says so itself: off, on, auto, on:2; auto with
 * what was learned before is called learned. */
void fr_ab_arm_name(const fr_ab_arm *arm, char *name, size_t size);
/* Reads a name of `length` bytes; false: no arm is called so. */
bool fr_ab_arm_parse(const char *name, size_t length, fr_ab_arm *arm);

#endif
