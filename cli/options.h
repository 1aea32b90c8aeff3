/* The options of all commands, in one table: name, type, help, and which commands have it. Written as --name VALUE,
 * --name=VALUE, -n VALUE or -nVALUE. The last value counts, except for options that collect theirs. */
#ifndef FR_CLI_OPTIONS_H
#define FR_CLI_OPTIONS_H

#include "forerun.h"

/* Commands, as bits of an option's `commands`. */
enum {
    FR_CMD_GENERATE = 1,
    FR_CMD_SCORE = 2,
    FR_CMD_INSPECT = 4,
    FR_CMD_CHECK = 8,
    FR_CMD_TOKENIZE = 16,
    FR_CMD_SYNTH = 32,
    FR_CMD_QUANTIZE = 64,
    FR_CMD_BENCH = 128,
    FR_CMD_CHAT = 256,
    FR_CMD_ACCEPT = 512,
    FR_CMD_AB = 1024,
    FR_CMD_ALL = 2047,
};

typedef struct fr_cli_ids {
    int32_t *ids; /* NULL: the option was not given */
    size_t count;
} fr_cli_ids;

typedef struct fr_cli_biases {
    fr_logit_bias *biases; /* in order */
    size_t count;
} fr_cli_biases;

typedef struct fr_cli_texts {
    const char **texts; /* as given, in order */
    size_t count;
} fr_cli_texts;

enum { FR_CLI_MOST_OPTIONS = 192 };

/* Values as parsed. Without a default, numbers that were not given are 0 and texts NULL. */
typedef struct fr_cli_options {
    bool help, json, quiet;
    const char *model;
    int threads;
    int ranks;
    uint64_t seed;

    const char *prompt, *prompt_file, *prompts;
    fr_cli_ids prompt_tokens, decode;
    bool chat, no_special, with_special, raw_special;
    bool no_pin, check_finite;
    const char *chat_format;
    int think; /* fr_think */

    const char *system, *session;

    int max_tokens;
    bool ignore_eos;

    int mtp, depth, mtp_hidden, mtp_recycle; /* fr_drafting; 0: as mtp says; fr_hidden_state, fr_recycle */
    int verify, draft_head, drafter;         /* fr_verify; index into the table's choices */
    double temperature, top_p, min_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    int top_k;
    fr_cli_biases logit_bias;
    fr_cli_texts stop;
    int act, kv, ctx, isa; /* fr_act, fr_kv, fr_isa */
    int weights, reader;   /* fr_weights, fr_reader_kind */
    uint64_t expert_cache;

    const char *logits, *mtp_logits, *hidden, *experts;
    bool tensors, headers;
    const char *filter, *config;

    fr_cli_ids rows;
    double seconds;
    const char *only;

    const char *output, *like, *tokenizer;
    int layers, num_experts, dtype, to; /* fr_precision; index into the table's choices */
    fr_cli_texts set;
    uint64_t shard_bytes;
    bool sparse, no_mtp_copies, force;
    double expert_skew;

    int most_prompts;
    const char *html, *csv;
    const char *arms, *synthetic, *compare, *from;
    int repeats, warm_up;
    double cool_off;
    bool no_noise_check, no_learned;

    bool teacher_forced;
    fr_cli_ids depths;
    const char *temperatures; /* numbers with commas between */
    int prefill_chunk;

    bool given[FR_CLI_MOST_OPTIONS]; /* by row of the table: see fr_cli_given */
    const char *const *arguments;    /* [num_arguments] of the whole program, whose name is "forerun": how to repeat a study */
    size_t num_arguments;
} fr_cli_options;

typedef enum fr_cli_type {
    FR_OPT_FLAG,
    FR_OPT_INT,    /* int in [low, high] */
    FR_OPT_U64,    /* uint64_t */
    FR_OPT_SIZE,   /* uint64_t: bytes, or with K, M, G, T behind it KiB, MiB, GiB, TiB */
    FR_OPT_REAL,   /* double in [low, high] */
    FR_OPT_TEXT,   /* const char *, anything */
    FR_OPT_FILE,   /* const char *, not empty */
    FR_OPT_CHOICE, /* int: the value of a word */
    FR_OPT_IDS,    /* fr_cli_ids: comma-separated token ids */
    FR_OPT_TEXTS,  /* fr_cli_texts: each one given is added */
    FR_OPT_BIASES, /* fr_cli_biases: comma-separated id=number, each one given is added */
} fr_cli_type;

typedef struct fr_cli_option {
    const char *name, *value; /* value: what --help calls it; NULL for a flag */
    char letter;              /* 0: none */
    fr_cli_type type;
    const char *group, *help;
    const char *fallback; /* the default as --help and the parser read it; NULL: none */
    size_t offset;        /* of the field in fr_cli_options */
    double low, high;
    const char *(*word)(int value); /* FR_OPT_CHOICE: the word of an enum's value, NULL after the last */
    const char *also;               /* one word more, whose value is the next; NULL: none */
    unsigned commands;
} fr_cli_option;

extern const fr_cli_option fr_cli_option_table[];
extern const size_t fr_cli_option_count;

/* Parses what follows the command's name. Returns 0, or prints what is wrong and returns FR_EXIT_USAGE. With --help it
 * stops there. Release with fr_cli_options_free in both cases. */
int fr_cli_options_parse(fr_cli_options *options, unsigned command, const char *command_name, int count, char **arguments);
void fr_cli_options_free(fr_cli_options *options);

/* Whether an option was given, as its default may have been. */
bool fr_cli_given(const fr_cli_options *options, const char *name);

/* Edits (insert, delete, replace) between two words: to suggest what was meant. */
size_t fr_cli_distance(const char *a, const char *b);
/* Whether `distance` from a word is small enough for a typing error. */
bool fr_cli_is_near(const char *word, size_t distance);

/* Prints the options of a command, in groups. */
void fr_cli_options_help(unsigned command);

#endif
