#include <limits.h>

#include "cli/options.h"
#include "forerun_checkpoint.h"
#include "study/words.h"

#define AT(member) offsetof(fr_cli_options, member)
#define FLAG(long_name, short_name, group, help, member, commands)                                                               \
    { long_name, NULL, short_name, FR_OPT_FLAG, group, help, NULL, AT(member), 0, 0, NULL, NULL, commands }
#define NUMBER(long_name, short_name, type, value, low, high, fallback, group, help, member, commands)                           \
    { long_name, value, short_name, type, group, help, fallback, AT(member), low, high, NULL, NULL, commands }
#define CHOICE(long_name, word, fallback, group, help, member, commands)                                                         \
    { long_name, "WORD", 0, FR_OPT_CHOICE, group, help, fallback, AT(member), 0, 0, word, NULL, commands }
#define CHOICE_OR(also, long_name, word, fallback, group, help, member, commands)                                                \
    { long_name, "WORD", 0, FR_OPT_CHOICE, group, help, fallback, AT(member), 0, 0, word, also, commands }
#define TEXT(long_name, short_name, type, value, fallback, group, help, member, commands)                                        \
    { long_name, value, short_name, type, group, help, fallback, AT(member), 0, 0, NULL, NULL, commands }

#define INPUT "Input"
#define LENGTH "Length"
#define MEASURES "What to measure"
#define HOW "How to measure"
#define SPECULATION "Speculation"
#define SAMPLING "Sampling"
#define NUMBERS "Numbers"
#define RESULTS "Results"
#define CONFIG "Config"
#define OUTPUT "Output"
#define EVERYWHERE "Everywhere"

enum {
    RUN = FR_CMD_GENERATE | FR_CMD_SCORE,                             /* commands that evaluate a text of the user's */
    PROMPTED = RUN | FR_CMD_TOKENIZE,                                 /* commands that take a prompt */
    MAKE = FR_CMD_GENERATE | FR_CMD_CHAT,                             /* commands that make tokens */
    EVALUATE = RUN | MAKE | FR_CMD_BENCH | FR_CMD_ACCEPT | FR_CMD_AB, /* commands that evaluate the model */
    WRITE = FR_CMD_SYNTH | FR_CMD_QUANTIZE,                           /* commands that write a checkpoint */
    STUDY = FR_CMD_ACCEPT | FR_CMD_AB,     /* commands that run the model over many prompts and report */
    TALK = PROMPTED | FR_CMD_CHAT | STUDY, /* commands that put text into a chat template */
};

/* What `quantize` can make: all but auto. */
static const char *target_word(int value) {
    return fr_precision_word(value + FR_PRECISION_FP8);
}

/* What `accept` can compare. */
static const char *recycles_word(int value) {
    static const char *const several[] = {"both", "all"};
    int more = value - FR_RECYCLE_COUNT;
    return more < 0 ? fr_recycle_word(value) : more < 2 ? several[more] : NULL;
}

const fr_cli_option fr_cli_option_table[] = {
    TEXT("prompt", 'p', FR_OPT_TEXT, "TEXT", NULL, INPUT,
         "the prompt; special tokens in it are recognised, so it may be a chat that is rendered already", prompt, PROMPTED),
    TEXT("prompt-file", 'f', FR_OPT_FILE, "FILE", NULL, INPUT, "read the prompt from a file, as it is; - is stdin", prompt_file,
         PROMPTED),
    TEXT("prompt-tokens", 0, FR_OPT_IDS, "1,2,3", NULL, INPUT, "the prompt as token ids, nothing added", prompt_tokens,
         RUN | STUDY),
    TEXT("tokens", 0, FR_OPT_IDS, "1,2,3", NULL, INPUT, "the same as --prompt-tokens", prompt_tokens, RUN),
    FLAG("chat", 0, INPUT, "put the prompt into the chat template, as a user turn", chat, PROMPTED),
    CHOICE("think", fr_think_word, "auto", INPUT, "reasoning before the answer, in chat formats that have both", think, TALK),
    TEXT("chat-format", 0, FR_OPT_TEXT, "NAME", "as the template tells", INPUT, "a chat format by name; ? lists them",
         chat_format, TALK),
    FLAG("raw-special", 0, INPUT, "recognise control tokens in what is put into the template, too", raw_special, TALK),
    TEXT("session", 0, FR_OPT_FILE, "FILE", NULL, INPUT,
         "go on from this session file, if it is there, the prompt after its text; and save there", session, FR_CMD_GENERATE),
    TEXT("system", 0, FR_OPT_TEXT, "TEXT", NULL, INPUT, "what the model is told before the conversation", system, FR_CMD_CHAT),
    TEXT("decode", 0, FR_OPT_IDS, "1,2,3", NULL, INPUT, "ids to text instead", decode, FR_CMD_TOKENIZE),
    TEXT("prompts", 0, FR_OPT_FILE, "FILE", NULL, INPUT, "many: lines of JSON with a \"prompt\" or \"tokens\"; - is stdin",
         prompts, FR_CMD_TOKENIZE),
    TEXT("prompts", 0, FR_OPT_FILE, "FILE", "the model's prompts.jsonl", INPUT,
         "lines of JSON with a \"prompt\" or \"tokens\", \"id\", \"domain\"; or one text", prompts, STUDY),
    NUMBER("most-prompts", 0, FR_OPT_INT, "N", 1, INT_MAX, "all", INPUT, "take the first N", most_prompts, STUDY),
    FLAG("chat", 0, INPUT, "put each prompt into the chat template, as a user turn", chat, STUDY),
    FLAG("no-special", 0, INPUT, "add no bos token, and read special tokens in the text as text", no_special, FR_CMD_TOKENIZE),
    FLAG("with-special", 0, INPUT, "with --decode: write special tokens too", with_special, FR_CMD_TOKENIZE),

    TEXT("config", 0, FR_OPT_FILE, "FILE", NULL, INPUT, "work from a config.json alone", config, FR_CMD_INSPECT),
    TEXT("config", 0, FR_OPT_FILE, "FILE", NULL, CONFIG, "the config.json to write a checkpoint for", config, FR_CMD_SYNTH),
    TEXT("like", 0, FR_OPT_FILE, "DIR", NULL, CONFIG, "the same, of a checkpoint's config.json", like, FR_CMD_SYNTH),
    NUMBER("layers", 0, FR_OPT_INT, "N", 1, INT_MAX, "the config's", CONFIG, "num_hidden_layers; fewer keep one with experts",
           layers, FR_CMD_SYNTH),
    NUMBER("experts", 0, FR_OPT_INT, "N", 1, INT_MAX, "the config's", CONFIG,
           "n_routed_experts; fewer lower groups and top-k where they must", num_experts, FR_CMD_SYNTH),
    TEXT("set", 0, FR_OPT_TEXTS, "KEY=VALUE", NULL, CONFIG,
         "set a key of the config, as in rope_scaling.factor=4; may be repeated", set, FR_CMD_SYNTH),
    TEXT("output", 'o', FR_OPT_FILE, "DIR", NULL, OUTPUT, "the directory to write: absent or empty", output, WRITE),
    CHOICE("dtype", fr_precision_word, "auto", OUTPUT, "of the linears; auto is as the config says", dtype, FR_CMD_SYNTH),
    CHOICE("to", target_word, "fp8", OUTPUT,
           "FP8 with a scale per 128x128 block, amax/448; or FP8 back to BF16.\n"
           "                                max_relative_error is the largest over blocks of max|w - w'| / max|w|",
           to, FR_CMD_QUANTIZE),
    NUMBER("shard-bytes", 0, FR_OPT_U64, "N", 0, 0, "4250000000", OUTPUT, "most data in a file", shard_bytes, WRITE),
    FLAG("sparse", 0, OUTPUT, "full-sized files whose data are holes", sparse, FR_CMD_SYNTH),
    NUMBER("expert-skew", 0, FR_OPT_REAL, "S", 0, 100, "0", OUTPUT,
           "how much some experts are preferred: 0.2 is as much as a token's own scores say", expert_skew, FR_CMD_SYNTH),
    FLAG("no-mtp-copies", 0, OUTPUT, "leave out the MTP module's copies of embedding and head", no_mtp_copies, FR_CMD_SYNTH),
    TEXT("tokenizer", 0, FR_OPT_FILE, "DIR", NULL, OUTPUT, "copy the tokenizer of this checkpoint", tokenizer, FR_CMD_SYNTH),
    FLAG("force", 0, OUTPUT, "write into a directory that is not empty", force, WRITE),
    FLAG("headers", 0, RESULTS, "check files, headers and config alone, in seconds: values are not read", headers, FR_CMD_CHECK),
    FLAG("tensors", 0, RESULTS, "list every tensor", tensors, FR_CMD_INSPECT),
    TEXT("filter", 0, FR_OPT_TEXT, "GLOB", NULL, RESULTS, "list the tensors whose name matches", filter, FR_CMD_INSPECT),

    TEXT("logits", 0, FR_OPT_FILE, "F.npy", NULL, RESULTS, "write logits, float32 [T, vocab]", logits, FR_CMD_SCORE),
    TEXT("mtp-logits", 0, FR_OPT_FILE, "F.npy", NULL, RESULTS, "write the MTP module's logits, float32 [T-1, vocab]", mtp_logits,
         FR_CMD_SCORE),
    TEXT("hidden", 0, FR_OPT_FILE, "F.npy", NULL, RESULTS, "write hidden states after the final norm, float32 [T, hidden]",
         hidden, FR_CMD_SCORE),
    TEXT("experts", 0, FR_OPT_FILE, "F.npy", NULL, RESULTS, "write the chosen experts, int32 [moe layers, T, top-k]", experts,
         FR_CMD_SCORE),

    FLAG("teacher-forced", 0, MEASURES,
         "the prompts are the texts: drafts are verified at every position, in prefill passes, nothing is generated",
         teacher_forced, FR_CMD_ACCEPT),
    TEXT("depths", 0, FR_OPT_IDS, "1,2,3", NULL, MEASURES, "a configuration for each depth, instead of --depth", depths,
         FR_CMD_ACCEPT),
    TEXT("temperatures", 0, FR_OPT_TEXT, "0,0.6,1", NULL, MEASURES,
         "a configuration for each temperature, instead of --temperature", temperatures, FR_CMD_ACCEPT),
    TEXT("only", 0, FR_OPT_TEXT, "PART,...", "all", MEASURES,
         "of linear, prefill, passes, decode, draft, context; read bandwidth always", only, FR_CMD_BENCH),
    TEXT("rows", 0, FR_OPT_IDS, "1,2,3", "1-8,128,512", MEASURES,
         "of linears; of passes those up to 8, tokens of prompts the others", rows, FR_CMD_BENCH),
    NUMBER("seconds", 0, FR_OPT_REAL, "F", 0.001, 3600, "0.1", MEASURES, "to spend on each figure, three rounds at least",
           seconds, FR_CMD_BENCH),

    TEXT("arms", 0, FR_OPT_TEXT, "off,on:2,...", "off,on,auto,learned", MEASURES,
         "of off, on, auto (each text begins knowing nothing, as a first run does) and learned (auto with\n"
         "                                what earlier texts and runs taught, as later runs do); :K for at most K drafts a "
         "cycle.\n"
         "                                Compared with off, or the first",
         arms, FR_CMD_AB),
    TEXT("synthetic-acceptance", 0, FR_OPT_TEXT, "P,...", NULL, MEASURES,
         "also with drafts that are right with this chance (0 to 1): taken from\n"
         "                                the text that will come, spoiled at random, with the MTP module running",
         synthetic, FR_CMD_AB),
    TEXT("compare", 0, FR_OPT_FILE, "OLD.json", NULL, MEASURES, "what differs beyond noise from an earlier run's document",
         compare, FR_CMD_AB),
    TEXT("from", 0, FR_OPT_FILE, "RUN.json", NULL, MEASURES, "measure nothing: take this document of a run", from, FR_CMD_AB),
    NUMBER("repeats", 0, FR_OPT_INT, "R", 1, 1000, "2", HOW,
           "texts of each prompt in each arm; arms take turns forward and backward (ABBA)", repeats, FR_CMD_AB),
    NUMBER("warm-up", 0, FR_OPT_INT, "N", 0, 1000, "1", HOW, "short texts of each arm before it begins", warm_up, FR_CMD_AB),
    NUMBER("cool-off", 0, FR_OPT_REAL, "S", 0, 3600, "0", HOW, "seconds to wait before each text", cool_off, FR_CMD_AB),
    FLAG("no-noise-check", 0, HOW, "leave out the second run of the compared arm, which shows the noise", no_noise_check,
         FR_CMD_AB),
    TEXT("html", 0, FR_OPT_FILE, "FILE", NULL, RESULTS, "write a report", html, STUDY),
    TEXT("csv", 0, FR_OPT_FILE, "FILE", NULL, RESULTS, "write a table of all figures", csv, STUDY),

    NUMBER("max-tokens", 'n', FR_OPT_INT, "N", 1, INT_MAX, "128", LENGTH, "most tokens to generate", max_tokens, FR_CMD_GENERATE),
    NUMBER("max-tokens", 'n', FR_OPT_INT, "N", 1, INT_MAX, "what a prompt says, or 128", LENGTH,
           "most tokens of a text, also where its prompt says more", max_tokens, FR_CMD_ACCEPT),
    NUMBER("max-tokens", 'n', FR_OPT_INT, "N", 2, INT_MAX, "what a prompt says, or 128", LENGTH,
           "most tokens of a text, also where its prompt says more", max_tokens, FR_CMD_AB),
    NUMBER("max-tokens", 'n', FR_OPT_INT, "N", 1, INT_MAX, "512", LENGTH, "most tokens of a reply", max_tokens, FR_CMD_CHAT),
    FLAG("ignore-eos", 0, LENGTH, "do not stop at an end-of-sequence token", ignore_eos, MAKE | STUDY),
    TEXT("stop", 0, FR_OPT_TEXTS, "TEXT", NULL, LENGTH, "end before this text; may be repeated", stop, MAKE),

    CHOICE("mtp", fr_drafting_word, "auto", SPECULATION, "whether to draft; auto: where it pays", mtp, MAKE),
    NUMBER("depth", 0, FR_OPT_INT, "K", 1, FR_MAX_DEPTH, "1 with on, 3 with auto", SPECULATION, "most drafts a cycle", depth,
           MAKE),
    NUMBER("depth", 0, FR_OPT_INT, "K", 1, FR_MAX_DEPTH, "1 with on, 3 with auto", SPECULATION,
           "most drafts a cycle, in arms that do not say", depth, FR_CMD_AB),
    NUMBER("depth", 0, FR_OPT_INT, "K", 1, FR_MAX_DEPTH, "3", SPECULATION, "drafts a cycle: positions 1 to K are measured", depth,
           FR_CMD_ACCEPT),
    CHOICE_OR("both", "mtp-hidden", fr_hidden_state_word, "post", SPECULATION,
              "main hidden state that the MTP module reads: after the norm or before; both: a configuration each", mtp_hidden,
              FR_CMD_ACCEPT),
    CHOICE(
        "mtp-recycle", recycles_word, "post", SPECULATION,
        "what a chained draft reads: the MTP module's output, or pinned, what the first draft read; both (post and pre), all: a "
        "configuration each",
        mtp_recycle, FR_CMD_ACCEPT),
    CHOICE_OR("both", "verify", fr_verify_word, "coupled", SPECULATION,
              "coupled: the same text with and without drafts; rejection: more is accepted; both: a configuration each", verify,
              FR_CMD_ACCEPT),
    CHOICE("mtp-hidden", fr_hidden_state_word, "post", SPECULATION,
           "main hidden state that the MTP module reads: after the norm or before", mtp_hidden, RUN | FR_CMD_CHAT | FR_CMD_AB),
    CHOICE("mtp-recycle", fr_recycle_word, "post", SPECULATION,
           "what a chained draft reads: the MTP module's output after its norm or before, or pinned, what the first draft read",
           mtp_recycle, MAKE | FR_CMD_AB),
    CHOICE("verify", fr_verify_word, "coupled", SPECULATION,
           "coupled: the same text with and without drafts; rejection: more is accepted", verify, MAKE | FR_CMD_AB),
    CHOICE("draft-head", fr_draft_head_word, "auto", SPECULATION,
           "LM head of drafts; fp8: a copy, half the bytes; auto: that where it pays. Verification uses the exact one",
           draft_head, MAKE | FR_CMD_BENCH | FR_CMD_INSPECT | STUDY),
    FLAG("no-learned", 0, SPECULATION,
         "auto: neither begin with what was learned of this model on this machine, nor keep it.\n"
         "                                It is in $XDG_CACHE_HOME/forerun, or ~/.cache/forerun",
         no_learned, MAKE | FR_CMD_AB),
    CHOICE("drafter", fr_drafter_word, "mtp", SPECULATION,
           "where drafts come from; ngram: what followed the text's last tokens when they last occurred", drafter, MAKE | STUDY),

    NUMBER("temperature", 0, FR_OPT_REAL, "F", 0, 100, "0", SAMPLING, "0 is greedy", temperature, MAKE | STUDY),
    NUMBER("top-k", 0, FR_OPT_INT, "N", 0, INT_MAX, "0", SAMPLING, "keep the N most probable tokens; 0: all", top_k,
           MAKE | STUDY),
    NUMBER("top-p", 0, FR_OPT_REAL, "F", 0, 1, "1", SAMPLING, "keep the most probable tokens that make up this mass; 0 or 1: all",
           top_p, MAKE | STUDY),
    NUMBER("min-p", 0, FR_OPT_REAL, "F", 0, 1, "0", SAMPLING, "keep tokens at least this probable, relative to the best", min_p,
           MAKE | STUDY),
    NUMBER("repetition-penalty", 0, FR_OPT_REAL, "F", 0.01, 100, "1", SAMPLING,
           "divide positive logits by it, multiply negative ones, of tokens in prompt and text; 1: off", repetition_penalty,
           MAKE | STUDY),
    NUMBER("presence-penalty", 0, FR_OPT_REAL, "F", -100, 100, "0", SAMPLING,
           "take it from the logits of tokens in the generated text", presence_penalty, MAKE | STUDY),
    NUMBER("frequency-penalty", 0, FR_OPT_REAL, "F", -100, 100, "0", SAMPLING, "the same, once for each time", frequency_penalty,
           MAKE | STUDY),
    TEXT("logit-bias", 0, FR_OPT_BIASES, "ID=F,...", NULL, SAMPLING,
         "add to the logits of tokens, -inf forbids one; may be repeated", logit_bias, MAKE | STUDY),

    CHOICE("act", fr_act_word, "auto", NUMBERS, "FP8 activations; auto is as the checkpoint says", act, EVALUATE),
    CHOICE("kv", fr_kv_word, "bf16", NUMBERS, "what the KV cache holds", kv, EVALUATE | FR_CMD_INSPECT),
    NUMBER("ctx", 0, FR_OPT_INT, "N", 1, INT_MAX, "the model's limit, 4096 at most; for score: the text", NUMBERS,
           "most tokens, prompt included", ctx, RUN | FR_CMD_CHAT),
    NUMBER("ctx", 0, FR_OPT_INT, "N", 1, INT_MAX, "what the longest text needs", NUMBERS, "most tokens, prompt included", ctx,
           STUDY),
    NUMBER("prefill-chunk", 0, FR_OPT_INT, "N", 1, 65536, "512", NUMBERS,
           "rows of a prefill pass; up to 8: --teacher-forced sees the very bits that generating does", prefill_chunk,
           FR_CMD_ACCEPT),
    NUMBER("ctx", 0, FR_OPT_INT, "N", 1, INT_MAX, "the model's limit, 4096 at most", NUMBERS, "tokens to plan memory for", ctx,
           FR_CMD_INSPECT),
    NUMBER("ctx", 0, FR_OPT_INT, "N", 1, INT_MAX, "512, or half of the model's", NUMBERS, "tokens before a pass, a draft, a step",
           ctx, FR_CMD_BENCH),
    NUMBER("ranks", 0, FR_OPT_INT, "N", 1, 1024, "1", NUMBERS, "plan for each of N processes that share the model (mpirun -n N)",
           ranks, FR_CMD_INSPECT),
    CHOICE("isa", fr_isa_word, "auto", NUMBERS, "instruction set; auto is the best there is", isa, EVALUATE),
    FLAG("check-finite", 0, NUMBERS,
         "look for values that are not finite behind every part of every layer, to name the first; costs some percent",
         check_finite, RUN | MAKE),
    CHOICE("weights", fr_weights_word, "auto", NUMBERS,
           "mapped from their files; or copied into huge pages; or mapped and read at once;\n"
           "                                or routed experts read when they are chosen.\n"
           "                                auto is mmap where all fits, else stream",
           weights, EVALUATE | FR_CMD_INSPECT),
    TEXT("expert-cache", 0, FR_OPT_SIZE, "BYTES", "the memory that is left", NUMBERS,
         "streamed weights: memory for routed experts; 20G is twenty GiB", expert_cache, EVALUATE | FR_CMD_INSPECT),
    CHOICE("reader", fr_reader_word, "auto", NUMBERS, "streamed weights: how files are read; auto is uring where it is allowed",
           reader, EVALUATE),

    TEXT("model", 'm', FR_OPT_FILE, "DIR", "the demo model", EVERYWHERE, "the checkpoint's directory", model,
         FR_CMD_ALL & ~FR_CMD_SYNTH),
    NUMBER("threads", 't', FR_OPT_INT, "N", 1, 4096, "physical cores that affinity and cgroup quota allow", EVERYWHERE,
           "threads that compute", threads, FR_CMD_ALL),
    NUMBER("seed", 0, FR_OPT_U64, "N", 0, 0, "0", EVERYWHERE, "seed of all that is random", seed, FR_CMD_ALL),
    FLAG("no-pin", 0, EVERYWHERE, "leave threads where the system puts them; built with hwloc, they are bound to cores", no_pin,
         EVALUATE),
    FLAG("json", 0, EVERYWHERE, "one JSON document on stdout", json, FR_CMD_ALL & ~FR_CMD_CHAT),
    FLAG("quiet", 'q', EVERYWHERE, "nothing on stderr but errors", quiet, FR_CMD_ALL),
    FLAG("help", 'h', EVERYWHERE, "this text", help, FR_CMD_ALL),
};

const size_t fr_cli_option_count = sizeof fr_cli_option_table / sizeof fr_cli_option_table[0];

_Static_assert(sizeof fr_cli_option_table / sizeof fr_cli_option_table[0] <= FR_CLI_MOST_OPTIONS,
               "an option has its place in `given`");
