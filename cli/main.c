/* forerun: the program. Finds the command, parses its options and runs it. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/ranks.h"

typedef struct command {
    const char *name, *group, *summary, *example;
    unsigned bit; /* of the option table */
    int (*run)(const fr_cli_options *options);
} command;

static const command commands[] = {
    {"generate", "Text", "streams a completion of a prompt", "forerun generate -p \"Once upon a time\" -n 64", FR_CMD_GENERATE,
     fr_cmd_generate},
    {"chat", "Text", "a conversation; it keeps what was evaluated from turn to turn", "forerun chat -m DIR --temperature 0.6",
     FR_CMD_CHAT, fr_cmd_chat},
    {"score", "Text", "evaluates a text: perplexity and the log-probability of every token", "forerun score -f essay.txt --json",
     FR_CMD_SCORE, fr_cmd_score},
    {"tokenize", "Text", "text to token ids, or ids to text; it needs no weights", "forerun tokenize -p \"Hello, world\"",
     FR_CMD_TOKENIZE, fr_cmd_tokenize},
    {"inspect", "Checkpoints", "what is in a checkpoint: config, tensors, parameters, memory needed",
     "forerun inspect -m DIR --filter '*.layers.0.*'", FR_CMD_INSPECT, fr_cmd_inspect},
    {"check", "Checkpoints", "verifies a whole checkpoint and lists all that is wrong with it", "forerun check -m DIR --json",
     FR_CMD_CHECK, fr_cmd_check},
    {"quantize", "Checkpoints", "writes a BF16 or F32 checkpoint as FP8, or an FP8 one as BF16",
     "forerun quantize -m DIR -o DIR-FP8", FR_CMD_QUANTIZE, fr_cmd_quantize},
    {"synth", "Checkpoints", "writes a checkpoint with random weights from a config",
     "forerun synth --config config.json --layers 4 --experts 16 -o DIR", FR_CMD_SYNTH, fr_cmd_synth},
    {"bench", "Measuring", "measures this machine on the model's shapes: each part as a share of its limit",
     "forerun bench -m DIR --only linear,passes", FR_CMD_BENCH, fr_cmd_bench},
    {"accept", "Measuring", "acceptance study: how often drafts are accepted, by position, domain and confidence",
     "forerun accept -m DIR --prompts prompts.jsonl --depth 3 --html accept.html", FR_CMD_ACCEPT, fr_cmd_accept},
    {"ab", "Measuring", "A/B latency study: drafting on against off, in pairs by prompt",
     "forerun ab -m DIR --arms off,on,auto --html ab.html", FR_CMD_AB, fr_cmd_ab},
};
enum { NUM_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *to) {
    const char *group = "";
    fprintf(to, "forerun: speculative decoding for DeepSeek-V3-family checkpoints\n\n"
                "usage: forerun COMMAND [options]\n");
    for (int i = 0; i < NUM_COMMANDS; i++) {
        if (strcmp(group, commands[i].group) != 0) fprintf(to, "\n%s\n", group = commands[i].group);
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    }
    fprintf(to,
            "\nforerun COMMAND --help tells of a command's options, forerun --version of this build.\n"
            "\nExample\n  %s\n",
            commands[0].example);
}

static int print_version(void) {
    const char *info = fr_build_info();
    printf("forerun %s\n", fr_version());
    for (const char *line = info; *line;) { /* one fact a line */
        size_t length = strcspn(line, "\n");
        if (strncmp(line, "forerun ", 8) != 0 && length > 0) printf("%.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
    return fr_cli_flush(FR_EXIT_DONE);
}

static int unknown_command(const char *name) {
    const char *nearest = NULL;
    size_t best = SIZE_MAX;
    char list[128] = "";
    for (int i = 0; i < NUM_COMMANDS; i++) {
        size_t used = strlen(list), distance = fr_cli_distance(name, commands[i].name);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", commands[i].name);
        if (distance >= best) continue;
        best = distance;
        nearest = commands[i].name;
    }
    fr_cli_error(FR_EXIT_USAGE, "%s: unknown command; there are: %s", name, list);
    if (nearest && fr_cli_is_near(nearest, best))
        fr_cli_hint("did you mean forerun %s?", nearest);
    else
        fr_cli_hint("forerun --help lists the commands");
    return FR_EXIT_USAGE;
}

/* What must be the same on all ranks: the command line without that which a machine may need in its own way. */
static void shared_options(const fr_cli_options *options, char *text, size_t size) {
    static const char *const own[] = {"-t", "--threads", "-m", "--model"};
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 1; i < options->num_arguments && used < size; i++) {
        const char *word = options->arguments[i];
        bool skip = strcmp(word, "--no-pin") == 0;
        for (size_t j = 0; j < sizeof own / sizeof own[0] && !skip; j++) {
            size_t length = strlen(own[j]);
            bool whole = strcmp(word, own[j]) == 0;
            skip = whole || (strncmp(word, own[j], length) == 0 && (own[j][1] != '-' || word[length] == '='));
            i += whole;
        }
        if (!skip) used += (size_t)snprintf(text + used, size - used, "%s%s", used ? " " : "", word);
    }
}

/* Runs a command with the other ranks, if mpirun has started several. Those that need no network are rank 0's alone. */
static int run_on_ranks(const command *chosen, const fr_cli_options *options) {
    enum { SHARED = FR_CMD_GENERATE | FR_CMD_CHAT | FR_CMD_SCORE | FR_CMD_BENCH | FR_CMD_ACCEPT | FR_CMD_AB };
    char text[2048];
    if (!fr_cli_ranks_are_several()) return chosen->run(options);
    if (!(chosen->bit & SHARED)) return fr_cli_ranks_own() == 0 ? chosen->run(options) : FR_EXIT_DONE;
    shared_options(options, text, sizeof text);
    int code = fr_cli_ranks_join();
    if (!code) code = fr_cli_ranks_same("version", fr_version(), "all ranks need the same build of forerun");
    if (!code) code = fr_cli_ranks_same("command", text, "ranks may differ in --threads, --model and --no-pin alone");
    if (!code) code = chosen->run(options);
    return fr_cli_ranks_leave(code);
}

static int run_command(const command *chosen, int count, char **arguments) {
    static char program[] = "forerun";
    fr_cli_options options;
    arguments[-2] = program; /* studies print their command line, and its path does not help to repeat them */
    int code = fr_cli_options_parse(&options, chosen->bit, chosen->name, count, arguments);
    options.arguments = (const char *const *)arguments - 2; /* before them are the program and the command */
    options.num_arguments = (size_t)count + 2;
    if (!code && options.help) {
        printf("forerun %s: %s\n\nusage: forerun %s [options]\n", chosen->name, chosen->summary, chosen->name);
        fr_cli_options_help(chosen->bit);
        printf("\nExample\n  %s\n", chosen->example);
        code = fr_cli_flush(FR_EXIT_DONE);
    } else if (!code) {
        code = run_on_ranks(chosen, &options);
    }
    fr_cli_options_free(&options);
    return code;
}

static const command *find_command(const char *name) {
    for (int i = 0; i < NUM_COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c) {
    return strcmp(word, a) == 0 || strcmp(word, b) == 0 || strcmp(word, c) == 0;
}

/* forerun help, forerun help COMMAND. */
static int help(int count, char **arguments) {
    static char option[] = "--help";
    const command *wanted = count > 2 ? find_command(arguments[2]) : NULL;
    if (count > 2 && !wanted && arguments[2][0] != '-') return unknown_command(arguments[2]);
    if (wanted) return run_command(wanted, 1, (char *[]){arguments[0], arguments[1], option} + 2);
    print_usage(stdout);
    return fr_cli_flush(FR_EXIT_DONE);
}

/* A standard file that the caller has closed would be the next one that is opened, and messages go into it. Reading from the one
 * that takes its place, and writing to that of output, still fail. */
static void keep_standard_files(void) {
    const int modes[] = {O_WRONLY, O_RDONLY, O_WRONLY};
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", modes[fd]) != fd) _exit(FR_EXIT_FAILED);
}

int main(int count, char **arguments) {
    keep_standard_files();
    fr_cli_interrupt_install();
    fr_catch_read_faults(NULL); /* where it cannot be had, a file that is cut while it is mapped ends the program */
    if (fr_cli_ranks_are_several()) fr_cli_set_plain();
    if (fr_cli_ranks_own() > 0) fr_cli_ranks_silence();
    if (count < 2) {
        if (fr_cli_ranks_own() <= 0) print_usage(stderr);
        return FR_EXIT_USAGE;
    }
    const char *name = arguments[1];
    const command *chosen = find_command(name);
    if (chosen) return run_command(chosen, count - 2, arguments + 2);
    if (is_one_of(name, "--help", "-h", "help")) return help(count, arguments);
    if (is_one_of(name, "--version", "-v", "version")) return print_version();
    if (name[0] == '-') {
        fr_cli_error(FR_EXIT_USAGE, "%s: a command comes first", name);
        fr_cli_hint("forerun --help lists the commands");
        return FR_EXIT_USAGE;
    }
    return unknown_command(name);
}
