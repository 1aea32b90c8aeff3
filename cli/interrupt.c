#include "cli/interrupt.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli/message.h"

static volatile sig_atomic_t deferred, asked;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (!deferred || asked) _exit(FR_EXIT_INTERRUPTED);
    asked = 1;
}

void fr_cli_interrupt_break_reads(bool breaks) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    action.sa_flags = breaks ? 0 : SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL); /* mpirun's way to pass on a SIGINT */
}

void fr_cli_interrupt_install(void) {
    fr_cli_interrupt_break_reads(false); /* a write in progress is finished: the result stays whole */
}

void fr_cli_interrupt_defer(void) {
    deferred = 1;
}

bool fr_cli_interrupted(void) {
    return asked != 0;
}

void fr_cli_interrupt_forget(void) {
    asked = 0;
}
